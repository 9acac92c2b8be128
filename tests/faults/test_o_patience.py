"""How long the pool waits for others, and what does not count: the time that it was away itself. O6, O10, O26.

The loop is away when its process is stopped, when all of them are (a suspended machine, a paused container), and when
code of the user's keeps its thread. Here the clock of this process jumps instead.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.append(str(Path(__file__).parent))

from race_parts import eventually, gone, pool_client

from dremioframe.orchestration.payload import references
from dremioframe.orchestration.pool import boot, deadlines, lifecycle, silence, supervisor
from dremioframe.orchestration.pool.events import CallEnded, CallLost, CallStopped
from dremioframe.orchestration.pool.zygote_client import ZygoteClient

if TYPE_CHECKING:
    from collections.abc import Callable

#: The name of a FIFO, which a call opens and somebody else lets go.
Hold = Path


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """``jump(seconds)``: so much time has passed between two turns of the loop."""
    real, away = time.monotonic, [0.0]

    def monotonic() -> float:
        return real() + away[0]

    monkeypatch.setattr(time, "monotonic", monotonic)
    for module in (supervisor, deadlines, silence):  # these have bound it
        monkeypatch.setattr(module, "_monotonic", monotonic)

    def jumped(seconds: float) -> None:
        away[0] += seconds

    return jumped


@pytest.fixture
def hold(tmp_path: Path) -> Hold:
    path = tmp_path / "hold"
    os.mkfifo(path)
    return path


def held(client: Any, hold: Hold, text: str = "held") -> int:
    """A call that runs until ``hold`` is opened to be written."""
    call_id: int = client.start(f"open({str(hold)!r}).close(); out = {text.encode()!r}")
    return call_id


def let_go(hold: Hold) -> None:
    hold.open("w").close()


class Interrupted:
    """An epoll that finds nothing, so many times: as when a signal comes and the time is over by then."""

    def __init__(self, epoll: Any, times: int) -> None:
        self._epoll = epoll
        self._times = times

    def poll(self, timeout_s: float) -> Any:
        self._times -= 1
        return self._epoll.poll(timeout_s) if self._times < 0 else []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


# --------------------------------------------------------------------------------------------------- reports of an end


def test_o26_a_fork_server_that_was_stopped_as_long_as_we_were_has_not_fallen_silent(
    arm: Any, gate: Any, hold: Hold, jump: Any
) -> None:
    """Everything was stopped while a worker's end was about to be reported: nobody else is harmed by that."""
    arm(**{"zygote.report": f"{gate.action}@1"})
    with pool_client(size=2) as client:
        call_id = held(client, hold)
        crashed = client.submit("import os; os._exit(3)")
        client.until(lambda: client.lease._lifecycle.dying)
        gate.wait()
        jump(60.0)
        for _ in range(3):
            client.turn(0.0)
        gate.open()
        event = client.end(crashed)
        assert isinstance(event, CallLost)
        assert event.exit_code == 3  # as the fork server has said
        let_go(hold)
        assert isinstance(client.end(call_id), CallEnded)


def test_o26_what_had_been_said_is_heard_before_anybody_is_judged(
    arm: Any, gate: Any, hold: Hold, jump: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "_REPORT_LIMIT_S", 0.5)
    arm(**{"zygote.report": f"{gate.action}@1"})
    with pool_client(size=2) as client:
        call_id = held(client, hold)
        crashed = client.submit("import os; os._exit(3)")
        floor = client.lease._floor
        client.until(lambda: client.lease._lifecycle.dying)
        gate.wait()
        gate.open()
        control = client.pool._capacity.zygote.control_fd
        eventually(lambda: any(fd == control for fd, _ in floor.epoll.poll(0.0)))
        floor.epoll, epoll = Interrupted(floor.epoll, 1), floor.epoll
        jump(0.6)  # less than what is taken for an absence
        client.turn(0.0)
        floor.epoll = epoll
        event = client.end(crashed)
        assert isinstance(event, CallLost)
        assert event.exit_code == 3
        let_go(hold)
        assert isinstance(client.end(call_id), CallEnded)


def test_o26_the_grace_of_a_stopped_call_is_not_spent_while_we_are_away(hold: Hold, jump: Any) -> None:
    source = f"""
        try:
            ports.request(b"here")
            import time; time.sleep(600)
        finally:
            open({str(hold)!r}).close()
    """
    with pool_client() as client:
        call_id = client.submit(source)
        client.hear()
        client.lease.stop(call_id, dump=False)
        client.until(lambda: client.workers[0].page.knows_of_its_end())
        jump(600.0)
        for _ in range(3):
            client.turn(0.0)
        let_go(hold)
        event = client.end(call_id)
        assert isinstance(event, CallStopped)
        assert not event.killed


# ------------------------------------------------------------------------------------------------------ starts


def test_o26_a_start_is_not_over_its_time_because_we_were_away(hold: Hold, jump: Any) -> None:
    path = str(hold)

    def initializer() -> None:
        open(path).close()

    with pool_client(warm=0, initializer=references.pack_code(initializer)) as client:
        call_id = client.submit("out = b'fine'")
        client.until(lambda: client.workers and client.workers[0].pidfd >= 0)
        jump(boot.START_LIMIT_S + 60)
        for _ in range(3):
            client.turn(0.0)
        let_go(hold)
        assert bytes(client.end(call_id).payload) == b"fine"
        assert client.returned == []


def test_o6_a_worker_that_gets_ready_after_it_was_given_up_takes_no_call_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot, "START_LIMIT_S", 0.1)
    monkeypatch.setattr(lifecycle, "_DUMP_S", 600)
    flag = tmp_path / "flag"
    os.mkfifo(flag)
    path = str(flag)

    def initializer() -> None:
        if os.path.exists(path):
            open(path).close()

    with pool_client(warm=0, initializer=references.pack_code(initializer)) as client:
        call_id = client.submit("out = b'fine'")
        client.until(lambda: client.workers and client.workers[0].boot_error)
        [worker] = client.workers
        monkeypatch.setattr(boot, "START_LIMIT_S", 60)
        let_go(flag)
        flag.unlink()
        client.until(lambda: worker.has_spoken)
        assert (worker.booted, worker.fault) == (False, "")
        os.kill(worker.pid, signal.SIGKILL)  # which is what would come after the time for its stack
        assert bytes(client.end(call_id).payload) == b"fine"
        assert set(client.returned) == {call_id}


def test_o6_a_call_that_was_received_shows_that_its_worker_is_ready(tmp_path: Path, hold: Hold) -> None:
    """Its time is over, and it has got ready since that was last looked at."""
    flag = tmp_path / "flag"
    os.mkfifo(flag)
    path = str(flag)

    def initializer() -> None:
        open(path).close()

    with pool_client(warm=0, initializer=references.pack_code(initializer)) as client:
        call_id = client.submit(f"open({str(hold)!r}).close(); out = b'fine'")
        client.until(lambda: client.workers and client.workers[0].pidfd >= 0)
        [worker] = client.workers
        let_go(flag)
        eventually(lambda: worker.page.running()[0] == call_id)
        client.lease._lifecycle._booting[worker] = client.lease._lifecycle.due = 0.0
        floor = client.lease._floor
        floor.epoll, epoll = Interrupted(floor.epoll, 2), floor.epoll
        client.turn(0.0)
        floor.epoll = epoll
        assert (worker.has_spoken, worker.boot_error) == (False, "")
        let_go(hold)
        assert bytes(client.end(call_id).payload) == b"fine"
        assert client.returned == []


# ------------------------------------------------------------------------------------- no buffers in the kernel for now


def test_o10_an_order_of_a_fork_that_could_not_be_sent_is_sent_again(
    hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else reminds of it: the fork server has nothing to say."""
    fork, orders = ZygoteClient.fork, []

    def refused_once(self: ZygoteClient, incarnation: int, fds: tuple[int, int, int]) -> bool:
        orders.append(incarnation)
        return len(orders) > 1 and fork(self, incarnation, fds)

    with pool_client(size=2) as client:
        monkeypatch.setattr(ZygoteClient, "fork", refused_once)
        call_id = held(client, hold)
        assert client.run("out = b'fine'") == b"fine"
        assert orders == [orders[0]] * 2
        let_go(hold)
        assert isinstance(client.end(call_id), CallEnded)


STINGY = """
import os
from dremioframe.orchestration.pool import channel, frames
send_with = channel.Channel.send_with
def stingy(self, packet, fds):
    kind = frames.parse_any_sender(packet, frames.FROM_ZYGOTE)[1][0]
    return not (kind == frames.Kind.FORKED and os.path.exists(MEAN)) and send_with(self, packet, fds)
channel.Channel.send_with = stingy
"""


def test_o10_a_worker_that_ends_before_its_birth_could_be_told_harms_nobody(
    tmp_path: Path, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    mean = tmp_path / "mean"
    (tmp_path / "stingy_kernel.py").write_text(f"MEAN = {str(mean)!r}\n{STINGY}")
    monkeypatch.syspath_prepend(tmp_path)
    with pool_client(size=2, preload=("stingy_kernel",)) as client:
        call_id = held(client, hold)
        mean.touch()
        unborn = client.submit("out = b'fine'")
        [worker] = [worker for worker in client.workers if worker.pidfd < 0]
        client.until(lambda: worker.pid)
        pid = worker.pid
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: gone(pid, 0))  # the fork server has buried it
        mean.unlink()
        assert bytes(client.end(unborn).payload) == b"fine"
        let_go(hold)
        assert isinstance(client.end(call_id), CallEnded)


def test_o10_the_users_own_change_of_the_limit_stays() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        with pool_client():
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] != 900
            resource.setrlimit(resource.RLIMIT_NOFILE, (900, before[1]))
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (900, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    with pool_client():
        pass
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
