"""Races of a pool: its end against its beginnings, its workers' ends against the work that waits.

R7, R8, R14, R16, R17, R19, R20; R14 and R17 are in tests/pool/test_lifetime.py.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import warnings
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

sys.path.append(str(Path(__file__).parent))

from race_parts import pool_client

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task
from dremioframe.orchestration.errors import ExecutorClosedError
from dremioframe.orchestration.pool import zygote_client
from dremioframe.orchestration.pool.events import CallEnded

if TYPE_CHECKING:
    from collections.abc import Iterator


def pipeline_of(*tasks: Task) -> Pipeline:
    pipeline = Pipeline("p")
    for task in tasks:
        pipeline.add_task(task)
    return pipeline


@pytest.mark.parametrize("point", ["zygote.reap", "zygote.report"])
def test_r7_a_worker_retires_and_its_end_is_not_reported_yet(arm: Any, gate: Any, point: str) -> None:
    """The place of one that has ended is free as soon as its end is seen, and the backlog goes on when it can."""
    arm(**{point: f"{gate.action}@1"})
    with pool_client(warm=0, max_calls_per_worker=1) as client:
        calls = [client.submit("import os; out = str(os.getpid()).encode()") for _ in range(3)]
        [worker] = client.workers
        # What it has sent may be heard before its birth, and nobody is killed before that.
        client.until(lambda: calls[0] in client.ended and worker.pidfd >= 0)
        retired = int(bytes(client.end(calls[0]).payload))
        gate.wait()
        # Who has the place now waits for its fork; nothing has been told of the one that had it.
        client.until(lambda: client.workers and retired not in [worker.pid for worker in client.workers])
        gate.open()
        pids = {bytes(client.end(call_id).payload) for call_id in calls}
    assert len(pids) == 3


@pytest.mark.parametrize("started", [False, True], ids=["before", "after"])
def test_r8_closed_before_and_after_a_worker_is_asked_for(arm: Any, gate: Any, started: bool) -> None:
    point = "worker.received" if started else "dispatch.hire"
    arm(**{point: f"{gate.action}@1"})
    pipeline = pipeline_of(Task("a", int), Task("b", int))
    executor = ProcessExecutor(1)
    handle = pipeline.start(executor=executor)
    gate.wait()
    executor.close()
    if not started:
        gate.open()
    with pytest.raises(ExecutorClosedError) as caught:
        handle.result(timeout=60)
    assert caught.value.run is pipeline.last_run
    assert [str(pipeline.last_run.tasks[name].status) for name in "ab"] == ["CANCELLED", "CANCELLED"]
    with pytest.raises(ExecutorClosedError) as caught:
        pipeline.run(executor=executor)
    assert caught.value.run is None  # it did not begin


@pytest.mark.parametrize("point", ["zygote.fork", "zygote.forked"])
def test_r20_closed_just_before_and_just_after_a_fork(
    arm: Any, gate: Any, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zygote_client, "_END_LIMIT_S", 0.3)  # the fork server is held, and has to be killed
    arm(**{point: f"{gate.action}@1"})
    with pool_client(warm=0) as client:
        client.submit("import time; time.sleep(600)")
        arrived = threading.Event()
        threading.Thread(target=lambda: (gate.wait(), arrived.set()), daemon=True).start()
        client.until(arrived.is_set)  # what the fork server is told to do is said in these turns
        zygote = client.pool._capacity.zygote
        client.until(lambda: zygote.server_pid)
        below = psutil.Process(zygote.server_pid)
        family = [below, *below.children(recursive=True)]
        client.pool.close()
        gone, alive = psutil.wait_procs(family, timeout=60)
        assert not alive, alive
        assert gone


def test_r20_no_worker_is_started_for_a_pool_that_was_closed_meanwhile(arm: Any, gate: Any) -> None:
    arm(**{"dispatch.hire": f"{gate.action}@2"})
    with ProcessExecutor(2) as executor:
        first = pipeline_of(Task("t", int)).run(executor=executor)
        assert first["t"] == 0
        before = {child.pid for child in psutil.Process().children(recursive=True)}
        handle = pipeline_of(Task("t", int), Task("u", int)).start(executor=executor)
        gate.wait()
        executor.close()
        gate.open()
        with pytest.raises(ExecutorClosedError):
            handle.result(timeout=60)
        psutil.wait_procs([psutil.Process(pid) for pid in before if psutil.pid_exists(pid)], timeout=60)
        assert not psutil.Process().children(recursive=True)


def test_r16_a_signal_handler_wakes_while_its_own_thread_is_waking(arm: Any, gate: Any) -> None:
    arm(**{"supervisor.wake": f"{gate.action}@1"})
    handled = threading.Event()
    with pool_client(warm=1) as client:
        before = signal.signal(signal.SIGUSR1, lambda *_: (client.lease.wake(), handled.set()))

        def interrupt() -> None:
            gate.wait()  # this thread's sibling holds the lock
            os.kill(os.getpid(), signal.SIGUSR1)
            handled.wait(60)
            gate.open()

        helper = threading.Thread(target=interrupt, daemon=True)
        try:
            helper.start()
            client.lease.wake()
            helper.join()
            assert handled.is_set()
            assert client.lease.wait(30) == []
        finally:
            signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_r16_a15_an_executor_is_dropped_by_the_collector_while_another_runs() -> None:
    """Its finaliser closes a pool, wherever the collector happens to run: here, in the loop of another run."""
    dropped = ProcessExecutor(1)
    assert pipeline_of(Task("t", int)).run(executor=dropped)["t"] == 0
    watched = weakref.ref(dropped)
    cycle: list[Any] = [dropped]
    cycle.append(cycle)
    del dropped, cycle
    assert watched() is not None

    def collect(call_id: int, body: bytes) -> bytes:
        gc.collect()
        return b"it is gone" if watched() is None else b"it is there"

    with pool_client(warm=1, on_request=collect) as client, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert client.run("out = bytes(ports.request(b'collect'))") == b"it is gone"
        assert client.run("out = b'fine'") == b"fine"


def test_r19_restarts_without_end_leave_exactly_as_many_workers() -> None:
    size = 3
    with pool_client(warm=0, size=size) as client:
        for number in range(8):
            calls = [client.start("import time; time.sleep(600)") for _ in range(size)]
            for turn, worker in enumerate(client.workers):
                if (number + turn) % 2:
                    os.kill(worker.pid, signal.SIGKILL)
                else:
                    client.lease.stop(next(iter(worker.calls)), dump=False)
            for call_id in calls:
                assert not isinstance(client.end(call_id), CallEnded)
        for _ in range(size):
            client.start("import time; time.sleep(600)")
        zygote = psutil.Process(client.pool._capacity.zygote.server_pid)
        assert {child.pid for child in zygote.children()} == {worker.pid for worker in client.workers}
        assert len(client.workers) == size
