"""What one thread of the coordinator does while another looks at something else, and what reuses what.

A2, O7, O11, O30, U19.

Both orders are forced: what the other thread would do is done at the point where it would harm.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.append(str(Path(__file__).parent))

from race_parts import pool_client

from dremioframe.orchestration.pool import lifecycle
from dremioframe.orchestration.pool.events import CallLost
from dremioframe.orchestration.pool.floor import Floor

if TYPE_CHECKING:
    from collections.abc import Iterator

# ------------------------------------------------------------------------------------------------ descriptors' numbers


@pytest.fixture
def floor() -> Iterator[Floor]:
    floor = Floor()
    yield floor
    floor.close()


def new_at(number: int) -> int:
    """A descriptor of this number, readable for epoll."""
    fd = os.eventfd(1)
    if fd != number:
        os.dup2(fd, number)
        os.close(fd)
    return number


def ignore() -> None:
    """A handler."""


def listen() -> None:
    """Another."""


def test_a2_what_is_forgotten_late_is_not_what_has_its_number_now(floor: Floor) -> None:
    """Another lease's thread has closed the fork server's channel; a worker's was opened before this one noticed."""
    fd = new_at(os.dup(0))
    floor.watch(fd, listen)
    os.close(fd)
    assert new_at(fd) == fd
    floor.watch(fd, ignore)
    floor.forget(fd, listen)
    assert floor.handler(fd) is ignore
    floor.unwatch(fd)
    os.close(fd)


def test_a2_what_was_paused_under_a_number_says_nothing_of_the_next(floor: Floor) -> None:
    fd = new_at(os.dup(0))
    floor.watch(fd, listen)
    floor.pause(fd)
    os.close(fd)
    assert new_at(fd) == fd
    floor.watch(fd, ignore)
    floor.resume()  # registers nothing twice
    floor.pause(fd)
    floor.forget(fd, listen)
    floor.resume()
    assert floor.epoll.poll(0) == [(fd, select.EPOLLIN)]
    floor.unwatch(fd)
    os.close(fd)


# ----------------------------------------------------------------------------------------- a fork that another hears of


def test_o11_another_lease_hears_that_a_worker_could_not_be_forked(
    tmp_path: Path, arm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its hiring here and the first call that is sent to it."""
    arm(**{"zygote.fork": "fail:EAGAIN@2"})
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    with pool_client(size=2) as client:
        capacity = client.pool._capacity
        acquire = capacity.acquire

        def heard_meanwhile(share: Any) -> Any:
            worker = acquire(share)
            if worker is not None:
                control = select.poll()
                control.register(capacity.zygote.control_fd, select.POLLIN)
                assert control.poll(60_000)
                capacity.listen()
                if worker.exit is not None:
                    monkeypatch.setattr(capacity, "acquire", acquire)
            return worker

        monkeypatch.setattr(capacity, "acquire", heard_meanwhile)
        first = client.start(f"open({str(hold)!r}).close(); out = b'first'")
        second = client.submit("out = b'second'")
        assert bytes(client.end(second).payload) == b"second"
        hold.open("w").close()
        assert bytes(client.end(first).payload) == b"first"
        assert capacity.acquire is acquire


# ------------------------------------------------------------------------------------------------------- deaf workers

SHUT_READING = """
    import os, socket, stat
    inbox = min(fd for fd in map(int, os.listdir("/proc/self/fd"))
                if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}") and stat.S_ISSOCK(os.stat(fd).st_mode))
    socket.socket(fileno=os.dup(inbox)).shutdown(socket.SHUT_RD)
    out = str(os.getpid()).encode()
"""


def test_u19_a_worker_that_hears_no_call_any_more_gets_none_and_its_outcome_counts() -> None:
    with pool_client() as client:
        pid = client.run(SHUT_READING)
        assert client.run("import os; out = str(os.getpid()).encode()") != pid


@pytest.mark.usefixtures("sent_ahead")
def test_u19_the_next_call_is_sent_while_the_one_that_made_its_worker_deaf_runs() -> None:
    with pool_client() as client:
        call_id = client.submit(SHUT_READING + "    ports.request(b'deaf')\n    import time; time.sleep(600)")
        assert client.hear() == "deaf"
        other = client.submit("out = b'other'")
        event = client.end(call_id)
        assert isinstance(event, CallLost)
        assert event.description == "was ended because its channel was shut down by the task"
        assert bytes(client.end(other).payload) == b"other"


# ----------------------------------------------------------------------------------------------- stopped fork servers


@pytest.mark.parametrize("stays_stopped", [False, True])
def test_o7_a_fork_server_that_was_stopped_is_continued_before_it_is_replaced(
    tmp_path: Path, arm: Any, monkeypatch: pytest.MonkeyPatch, stays_stopped: bool
) -> None:
    monkeypatch.setattr(lifecycle, "_REPORT_LIMIT_S", 0.2)
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    with pool_client(size=2) as client:
        running = client.start(f"open({str(hold)!r}).close(); out = b'unharmed'")
        killed = client.start("import time; time.sleep(600)")
        zygote = client.pool._capacity.zygote
        [pid] = [worker.pid for worker in client.workers if killed in worker.calls]
        if stays_stopped:
            monkeypatch.setattr(lifecycle, "_CONTINUED_S", 0.2)
            monkeypatch.setattr(type(zygote), "resume", lambda self: None)
        os.kill(zygote.server_pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        event = client.end(killed)
        assert isinstance(event, CallLost)
        if stays_stopped:
            assert event.description.startswith("ended; how is not known, because its fork server did not answer")
            other = client.end(running)
            assert isinstance(other, CallLost)
            assert other.description == "was killed because its fork server did not answer and was ended"
        else:
            assert event.signal == signal.SIGKILL
            assert client.pool._capacity.zygote is zygote
            hold.open("w").close()
            assert bytes(client.end(running).payload) == b"unharmed"
        monkeypatch.undo()
        assert client.run("out = b'fine'") == b"fine"


# ------------------------------------------------------------------------------------------------------ what is kept


def test_o30_a_child_forked_while_an_end_is_unreported_has_no_descriptor_of_that_worker(arm: Any, gate: Any) -> None:
    arm(**{"zygote.report": f"{gate.action}@1"})
    before = set(os.listdir("/proc/self/fd"))
    with pool_client() as client:
        lost = client.submit("import os; os._exit(3)")
        client.until(lambda: client.lease._lifecycle.dying)
        gate.wait()
        ours = {fd for fd in os.listdir("/proc/self/fd") if fd not in before and os.path.exists(f"/proc/self/fd/{fd}")}
        child = os.fork()
        if child == 0:
            os._exit(len([fd for fd in ours if os.path.exists(f"/proc/self/fd/{fd}")]))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        gate.open()
        assert isinstance(client.end(lost), CallLost)


def test_d7_workers_that_have_ended_are_not_kept_until_the_time_outs_of_their_calls() -> None:
    with pool_client(max_calls_per_worker=1) as client:
        for _ in range(5):
            client.run("pass", timeout_s=3600)
        assert len(client.lease._deadlines._timed) <= 2
