"""O2: workers that hold calls and do not react, because they were stopped, hang, or do not get to run."""

from __future__ import annotations

import os
import signal
import time

import pytest
from pool_client import PID
from pool_waiting import alive, eventually, gone

from dremioframe.orchestration.payload import references
from dremioframe.orchestration.pool import kinship, silence, termination
from dremioframe.orchestration.pool.events import CallEnded
from dremioframe.orchestration.pool.floor import NEVER

WAITS = "import os, time\nwhile not os.path.exists({!r}): time.sleep(0.01)"
THREAD = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(silence, "_LOOK_S", 0.05)


@pytest.fixture
def nobody_continues(monkeypatch):
    """As if somebody stopped workers again and again: the first SIGCONT would otherwise end what is tested."""
    monkeypatch.setattr(termination, "resume", lambda pidfd: None)


@pytest.fixture
def linger(tmp_path):
    """Have the client's only worker linger after a call; gives its pid and the file that ends this."""
    told, until = tmp_path / "told", tmp_path / "until"

    def make(client, pause_s):
        lingering = f"Lingering(b'done', {str(told)!r}, {str(until)!r}, {pause_s})"
        assert client.run(f"from pool_lingering import Lingering\nout = [{lingering}]") == b"done"
        eventually(told.exists)
        return client.workers[0].pid, until

    return make


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: kinship.read_state(pid) == b"T")


def fill(client):
    """Have all workers of the pool started and idle."""
    size = client.pool._capacity.options.size
    calls = [client.submit("ports.request(b'here'); import time; time.sleep(0.05)") for _ in range(size)]
    client.until(lambda: all(call_id in client.ended for call_id in calls))
    assert len(client.workers) == size


def test_o2_an_idle_worker_that_was_stopped_is_continued(client):
    pid = int(client.run(PID))
    stop(pid)
    call_id = client.submit(PID)
    assert int(bytes(client.end(call_id).payload)) == pid
    assert set(client.returned) == {call_id}


def test_o2_calls_of_a_stopped_worker_go_to_others_first(make_pool, connect, nobody_continues):
    client = connect(make_pool(size=2))
    fill(client)
    stopped, other = (worker.pid for worker in client.workers)
    stop(stopped)
    calls = [client.submit(PID) for _ in range(4)]
    client.until(lambda: all(call_id in client.ended for call_id in calls))
    assert {int(bytes(client.end(call_id).payload)) for call_id in calls} == {other}
    assert alive(stopped)  # nothing is waited for, so nobody counts its looks
    assert int(client.run(PID)) == other


def test_o2_a_worker_that_is_stopped_again_and_again_is_replaced(client, nobody_continues):
    pid = int(client.run(PID))
    stop(pid)
    call_id = client.submit(PID)
    assert int(bytes(client.end(call_id).payload)) != pid
    assert gone(pid)
    assert set(client.returned) == {call_id}


def test_o2_a_running_call_whose_worker_is_stopped_is_left_to_its_time_out(client, tmp_path):
    flag = tmp_path / "flag"
    call_id = client.start(WAITS.format(str(flag)))
    stop(client.workers[0].pid)
    client.until(lambda: client.lease._silence.due == NEVER)
    assert client.returned == []
    flag.touch()
    os.kill(client.workers[0].pid, signal.SIGCONT)
    assert isinstance(client.end(call_id), CallEnded)


def test_o2_a_worker_that_is_stopped_while_it_boots_is_continued(make_pool, connect):
    def initializer():
        os.kill(os.getpid(), signal.SIGSTOP)

    client = connect(make_pool(initializer=references.pack_code(initializer)))
    assert client.run("out = b'started all the same'") == b"started all the same"


def test_o27_a_worker_that_only_waits_for_a_cpu_is_left_alone(client, linger):
    """It never sleeps, so it looks as one that does not get to run; its calls come back again and again, no more."""
    pid, until = linger(client, 0)
    call_id = client.submit(PID)
    client.until(lambda: len(client.returned) > 2 * silence._LIMIT)
    assert call_id not in client.ended
    until.touch()
    assert int(bytes(client.end(call_id).payload)) == pid
    client.until(lambda: client.lease._silence.due == NEVER)
    assert not client.workers[0].silent  # it has its place back


def test_a_worker_that_hangs_after_a_call_is_replaced(client, linger):
    pid, _ = linger(client, 600)
    call_id = client.submit(PID)
    assert int(bytes(client.end(call_id).payload)) != pid
    assert gone(pid)


def test_a_worker_that_hangs_when_it_should_retire_is_replaced(client, tmp_path):
    """It has said that it takes no further call, so there is none to be taken back, and it is not waited for."""
    lingering = f"Lingering(str(os.getpid()).encode(), {str(tmp_path / 'told')!r}, {str(tmp_path / 'until')!r}, 600)"
    pid = int(client.run(f"{THREAD}import os\nfrom pool_lingering import Lingering\nout = [{lingering}]"))
    assert int(client.run(PID)) != pid
    assert gone(pid)


def test_a_call_that_was_read_and_not_begun_is_returned_by_the_kill(make_pool, connect, tmp_path, monkeypatch):
    """Its worker's page says so after its death. The first worker never gets beyond reading."""
    (tmp_path / "slow_reader.py").write_text(
        "import os, time\nfrom dremioframe.orchestration.pool import frames\nread_call_id = frames.read_call_id\n"
        "def slow(packet):\n"
        f"    if not os.path.exists({str(tmp_path / 'read')!r}):\n"
        f"        open({str(tmp_path / 'read')!r}, 'w').close()\n        time.sleep(600)\n"
        "    return read_call_id(packet)\n"
        "frames.read_call_id = slow\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    client = connect(make_pool(preload=("slow_reader",)))
    call_id = client.submit("out = b'run once'")
    assert bytes(client.end(call_id).payload) == b"run once"
    assert set(client.returned) == {call_id}


def test_looks_while_a_worker_gets_ready_are_not_held_against_it(make_pool, connect, tmp_path, monkeypatch):
    """It takes long, gets ready, and is found before it has read the call that was sent ahead."""
    monkeypatch.setattr(silence, "_LOOK_S", 600)
    starts, reads = tmp_path / "starts", tmp_path / "reads"
    (tmp_path / "hesitant_reader.py").write_text(
        "from dremioframe.orchestration.pool import channel\n"
        "receive = channel.Channel.receive_into_waiting\n"
        "def hesitant(self, buffer):\n"
        f"    channel.Channel.receive_into_waiting = receive\n    open({str(reads)!r}).close()\n"
        "    return receive(self, buffer)\n"
        "channel.Channel.receive_into_waiting = hesitant\n"
    )
    os.mkfifo(starts)
    os.mkfifo(reads)
    path = str(starts)
    monkeypatch.syspath_prepend(tmp_path)
    initializer = references.pack_code(lambda: open(path).close())
    client = connect(make_pool(preload=("hesitant_reader",), initializer=initializer))
    call_id = client.submit("out = b'read'")
    client.until(lambda: client.workers and client.workers[0].pidfd >= 0)
    look = client.lease._silence.expire
    for _ in range(silence._PATIENCE):
        look(time.monotonic())
    starts.open("w").close()
    client.until(lambda: client.workers[0].booted)
    look(time.monotonic())
    reads.open("w").close()
    assert bytes(client.end(call_id).payload) == b"read"
    assert client.returned == []


def test_nobody_looks_when_there_is_nothing_unread(client, tmp_path):
    flag = tmp_path / "flag"
    call_id = client.start(WAITS.format(str(flag)))
    for _ in range(2):  # while the call runs, and when there is none
        client.until(lambda: client.lease._silence.due == NEVER)
        assert client.lease.wait(4 * silence._LOOK_S) == []
        assert client.lease._silence.due == NEVER
        flag.touch()
        assert isinstance(client.end(call_id), CallEnded)
