"""Races between a worker that ends a call, or itself, and a coordinator that stops it or looks away.

R1 to R6, R9, R12, R13.

Both orders of each are forced: somebody waits at a failpoint while the other goes on.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

from race_parts import WARM, eventually, gone, pool_client

from dremioframe.orchestration.pool.events import CallEnded, CallLost, CallOverdue, CallReturned, CallStopped

NEXT = WARM + 1


def wait_until_stuck(worker: Any) -> None:
    """Until a worker that has much to do has been asleep in one call for a while; the kernel does not tell of it."""
    deadline, looks, call_id = time.monotonic() + 60, 0, -1
    while looks < 20:
        assert time.monotonic() < deadline
        before, call_id = call_id, worker.page.running()[0]
        state = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0]
        looks = looks + 1 if state == "S" and call_id == before != 0 else 0
        time.sleep(0.002)


def another(gate: Any, name: str) -> Any:
    return type(gate)(gate.folder.parent / name)


# ------------------------------------------------------------------------------------------------ stop against outcome


def test_r1_the_outcome_is_sent_then_the_call_is_stopped(arm: Any, gate: Any) -> None:
    arm(**{"worker.told": f"{gate.action}@{NEXT}"})
    with pool_client() as client:
        call_id = client.submit("out = b'in time'")
        pid = gate.wait()
        client.lease.stop(call_id, dump=False)
        assert client.workers[0].order is None  # nobody was told to end
        gate.open()
        assert bytes(client.end(call_id).payload) == b"in time"
        assert client.run("import os; out = str(os.getpid()).encode()") == str(pid).encode()


def test_r1_the_call_is_stopped_then_its_worker_would_send_the_outcome(arm: Any, gate: Any) -> None:
    arm(**{"worker.outcome": f"{gate.action}@{NEXT}"})
    with pool_client() as client:
        call_id = client.submit("out = b'too late'")
        pid = gate.wait()
        client.lease.stop(call_id, dump=False)
        event = client.end(call_id)
        assert isinstance(event, CallStopped)
        assert (event.pid, event.killed) == (pid, False)
        assert client.run("out = b'fine'") == b"fine"


def test_r1_the_outcome_comes_between_the_decision_and_the_signal(arm: Any, gate: Any) -> None:
    told, decided = another(gate, "told"), another(gate, "decided")
    arm(
        **{
            "worker.outcome": f"{gate.action}@{NEXT}",
            "worker.told": f"{told.action}@{NEXT}",
            "stopping.signal": f"{decided.action}@1",
        }
    )

    def let_it_tell() -> None:
        decided.wait()
        gate.open()
        told.wait()
        decided.open()

    with pool_client() as client:
        call_id = client.submit("out = b'too late'")
        gate.wait()
        helper = threading.Thread(target=let_it_tell, daemon=True)
        helper.start()
        client.lease.stop(call_id, dump=False)
        helper.join()
        assert isinstance(client.end(call_id), CallStopped)  # what is decided stays decided
        assert client.run("out = b'fine'") == b"fine"


def test_r1_how_long_a_call_took_whose_outcome_came_too_late(arm: Any, gate: Any) -> None:
    decided = another(gate, "decided")
    arm(**{"worker.outcome": f"{gate.action}@{NEXT}", "stopping.signal": f"{decided.action}@1"})
    left_the_page = threading.Event()

    def let_it_finish(worker: Any) -> None:
        decided.wait()
        gate.open()
        eventually(lambda: worker.page.running()[0] == 0)
        left_the_page.set()
        decided.open()

    with pool_client() as client:
        call_id = client.submit("import time; time.sleep(0.02); out = b'too late'")
        gate.wait()
        helper = threading.Thread(target=let_it_finish, args=client.workers, daemon=True)
        helper.start()
        client.lease.stop(call_id, dump=False)
        helper.join()
        assert left_the_page.is_set()
        event = client.end(call_id)
        assert isinstance(event, CallStopped)
        assert event.wall_s >= 0.02


@pytest.mark.usefixtures("sent_ahead")
def test_r5_stopping_what_waits_behind_a_call_that_its_worker_has_in_hand(arm: Any, gate: Any) -> None:
    arm(**{"worker.received": f"{gate.action}@{NEXT}"})
    with pool_client() as client:
        first = client.submit("out = b'untouched'")
        gate.wait()
        second = client.submit("out = b'never'")
        client.lease.stop(second, dump=False)
        assert client.workers[0].order is None
        gate.open()
        assert isinstance(client.end(second, resubmit=False), CallReturned)
        assert bytes(client.end(first).payload) == b"untouched"


@pytest.mark.usefixtures("sent_ahead")
def test_r6_stopping_a_call_whose_worker_has_moved_on(arm: Any, gate: Any) -> None:
    arm(**{"worker.received": f"{gate.action}@{NEXT + 1}"})
    with pool_client() as client:
        first = client.submit("out = b'ended'")
        second = client.submit("out = b'untouched'")
        gate.wait()  # it has the second, and nobody has read the outcome of the first
        client.lease.stop(first, dump=False)
        assert client.workers[0].order is None
        gate.open()
        assert bytes(client.end(first).payload) == b"ended"
        assert bytes(client.end(second).payload) == b"untouched"


# ------------------------------------------------------------------------------------------------ death against outcome


@pytest.mark.parametrize("size", [10, 1_000_000])
@pytest.mark.parametrize(("point", "kind"), [("worker.outcome", CallLost), ("worker.told", CallEnded)])
def test_r2_killed_just_before_and_just_after_its_outcome(arm: Any, point: str, kind: type, size: int) -> None:
    arm(**{point: "kill@2"})
    with pool_client(warm=1) as client:
        event = client.end(client.submit(f"out = bytes({size})"))  # a long one is handed over ahead of its outcome
        assert type(event) is kind
        if isinstance(event, CallEnded):
            payload = event.payload if event.segment is None else event.segment.read()
            assert len(payload) == size
            if event.segment is not None:
                event.segment.close()
        assert client.run("out = b'fine'") == b"fine"


@pytest.mark.usefixtures("sent_ahead")
@pytest.mark.parametrize("waiting", [0, 1])
def test_r3_the_end_is_seen_before_the_last_outcome_is_read(arm: Any, gate: Any, waiting: int) -> None:
    """With a call waiting the outcome lies in the ring, and the worker's end is all that the coordinator hears of."""
    arm(**{"worker.received": f"{gate.action}@{NEXT}", "worker.told": f"kill@{NEXT}"})
    with pool_client() as client:
        first = client.submit("out = b'ended'")
        pid = gate.wait()
        others = [client.submit("out = b'later'") for _ in range(waiting)]
        gate.open()
        assert gone(pid)
        event = client.end(first)
        assert isinstance(event, CallEnded), event
        assert bytes(event.payload) == b"ended"
        for call_id in others:
            assert bytes(client.end(call_id).payload) == b"later"
        assert client.returned == others


def test_r12_a_lost_call_is_told_only_when_its_worker_is_known_to_be_gone(arm: Any, gate: Any) -> None:
    """Whoever tries again must not meet what the first try has left running."""
    arm(**{"zygote.report": f"{gate.action}@1"})
    with pool_client(warm=1) as client:
        call_id = client.start("import time; time.sleep(600)")
        (dead,) = client.workers
        os.kill(dead.pid, signal.SIGKILL)
        gate.wait()  # the zygote knows, and has not said so
        client.until(lambda: dead not in client.workers)  # we know that it has ended, but not that its children have
        assert call_id not in client.ended
        gate.open()
        assert isinstance(client.end(call_id), CallLost)


def test_r12_an_outcome_of_a_call_that_is_over_already_is_not_believed(arm: Any) -> None:
    with pool_client(warm=1) as client:
        old = client.submit("out = b'old'")
        client.end(old)
        liar = client.submit(f"""
            from dremioframe.orchestration.pool import frames
            import gc
            worker = next(each for each in gc.get_objects() if type(each).__name__ == "_Worker")
            packet = frames.pack_outcome(worker._incarnation, {old}, 0, 1, (1, 1, 1, 1), b"again")
            worker._inbox.send_waiting(packet)
        """)
        assert isinstance(client.end(liar), CallLost)
        assert len(client.ended[old]) == 1
        assert client.run("out = b'fine'") == b"fine"


# --------------------------------------------------------------------------------------------------- clocks and closing


@pytest.mark.usefixtures("sent_ahead")
def test_r13_a_call_that_was_sent_long_ago_and_has_just_begun_is_not_overdue(arm: Any, gate: Any) -> None:
    limit_s = 0.5
    arm(**{"worker.received": f"{gate.action}@{NEXT}"})
    with pool_client() as client:
        first = client.submit("pass")
        gate.wait()
        sent = time.monotonic()
        second = client.submit("ports.request(b'here'); ports.request(b'there')", timeout_s=limit_s)
        while time.monotonic() < sent + limit_s:
            client.lease._turn(sent + limit_s)
        gate.open()
        while not client.heard:
            client.lease._turn(time.monotonic() + 1)
        client.lease._deadlines.expire(time.monotonic())
        started = client.started_at(second)
        ran_s = time.monotonic() - (started or 0)
        for event in client.lease._floor.events:
            assert not isinstance(event, CallOverdue) or ran_s >= limit_s
        assert isinstance(client.end(first), CallEnded)


@pytest.mark.parametrize("closed", ["lease", "pool"])
def test_r9_closing_while_a_worker_has_handed_over_half_of_a_long_result(arm: Any, gate: Any, closed: str) -> None:
    before = set(os.listdir("/proc/self/fd"))
    arm(**{"worker.outcome": f"{gate.action}@2"})
    with pool_client(warm=1) as client:
        client.submit("out = bytes(10_000_000)")
        pid = gate.wait()
        (client.lease if closed == "lease" else client.pool).close()
        assert not os.path.exists(f"/proc/{pid}")
    assert set(os.listdir("/proc/self/fd")) <= before


def test_r9_closing_while_a_worker_cannot_send_because_nobody_reads() -> None:
    with pool_client(warm=1) as client:
        worker = client.workers[0]
        for number in range(12):  # four fill the channel; past the window, which depends on how fast this machine is
            assert worker.send_call(1_000_000 + number, b"out = bytes(60_000)", None)
        pid = worker.pid
        wait_until_stuck(worker)
        client.lease.close()  # it reads what is there; if that ends all calls the worker may stay
        client.pool.close()
        assert not os.path.exists(f"/proc/{pid}")
