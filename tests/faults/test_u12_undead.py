"""Processes that SIGKILL does not end, because the kernel keeps them: a network disk is gone, their group is frozen.

Here the signal is not sent; the pool cannot tell the difference.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

from race_parts import eventually, pool_client

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task, TaskTimeoutError
from dremioframe.orchestration.pool import floor
from dremioframe.orchestration.pool.events import CallLost, CallStopped

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


@pytest.fixture(autouse=True)
def impatient(arm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor, "_KILLED_S", 0.1)
    arm(**{"floor.kill": "off"})


def test_u12_a_call_whose_process_does_not_end_is_told_as_that() -> None:
    with pool_client(size=1, kill_grace_s=0.0) as client:
        call_id = client.start(f"{DEAF}; ports.request(b'deaf'); time.sleep(600)")
        assert client.hear() == "deaf"
        [worker] = client.workers
        pid = worker.pid
        client.lease.stop(call_id, dump=False)
        event = client.end(call_id)
        assert isinstance(event, CallStopped)
        assert (event.pid, event.killed, event.undead) == (pid, True, True)
        assert client.lease.is_undead(call_id)
        assert client.run("out = b'its place is free'") == b"its place is free"
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not client.lease.is_undead(call_id))
        assert client.run("out = b'and stays so'") == b"and stays so"


def test_u12_a_worker_that_is_ended_for_its_fault_and_does_not_end() -> None:
    with pool_client(size=1) as client:
        call_id = client.start("ports.request(b'here'); import time; time.sleep(600)")
        assert client.hear() == "here"
        client.lease._floor.condemn(client.workers[0], "it has lied")
        event = client.end(call_id)
        assert isinstance(event, CallLost)
        assert event.undead
        assert event.description.startswith("was ended because it has lied; it does not end: the kernel keeps it")


@pytest.mark.parametrize("stops", ["time-out", "run's time-out"])
def test_u12_a_run_does_not_wait_for_it_and_does_not_run_it_beside_itself(stops: str) -> None:
    def deaf() -> None:
        while True:
            signal.pause()

    limits: dict[str, Any] = {"timeout": 0.1, "retries": 3, "retry_delay": 0.0} if stops == "time-out" else {}
    pipeline = Pipeline("p").add_task(Task("deaf", deaf, **limits)).add_task(Task("other", int))
    ignoring = (signal.SIGTERM, signal.SIG_IGN)
    with ProcessExecutor(2, kill_grace_s=0.0, initializer=signal.signal, initargs=ignoring) as executor:
        run = pipeline.run(executor=executor, timeout=None if limits else 1.0)
    assert run["other"] == 0
    if limits:
        assert run.status == "FAILED"
        error = run.failures["deaf"]
        assert isinstance(error, TaskTimeoutError)
        assert "was killed and does not end" in str(error)
        assert "code of attempt 1 still runs, and attempts never overlap" in run.explain("deaf")
    else:
        assert run.status == "CANCELLED"
    assert len(run.tasks["deaf"].attempts) == 1
