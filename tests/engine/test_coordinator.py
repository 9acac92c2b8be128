"""The loop under what should never happen, and what happens at the worst moment."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from dremioframe.orchestration import ExecutorClosedError, Pipeline, ProcessExecutor, RunState, Task, TaskError
from dremioframe.orchestration.testing import SimulatedExecutor, fail, hang, succeed


def pipeline_of(*tasks):
    pipeline = Pipeline("p")
    for each in tasks:
        pipeline.add_task(each)
    return pipeline


class Sabotaged(SimulatedExecutor):
    """Its session breaks at the second wait."""

    def open(self, plan, inputs):
        session = super().open(plan, inputs)
        waits = iter([session.wait])

        def wait(timeout_s):
            for real in waits:
                return real(timeout_s)
            raise OSError(28, "No space left on device")

        session.wait = wait
        return session


def test_a_broken_session_ends_the_run_on_paper():
    tasks = [Task("quick", lambda: 1), Task("slow", lambda: 2), Task("later", lambda: 3)]
    tasks[1].set_downstream(tasks[2])
    pipeline = pipeline_of(*tasks)
    executor = Sabotaged(workers=2, script={"slow": succeed(2, after_s=5)})
    with pytest.raises(OSError, match="No space"):
        pipeline.run(executor=executor)
    run = pipeline.last_run
    assert run.status == RunState.CANCELLED
    assert [str(task.status) for task in tasks] == ["SUCCESS", "CANCELLED", "CANCELLED"]


def test_a_pool_closed_under_a_run_ends_it_on_paper(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def announce():
        with open(fifo, "w") as file:
            file.write("x")
        threading.Event().wait()

    executor = ProcessExecutor(1)
    task = Task("t", announce)
    handle = pipeline_of(task).start(executor=executor)
    fifo.read_text()
    executor.close()
    with pytest.raises(ExecutorClosedError):
        handle.result(30)
    assert task.status == "CANCELLED"


def test_cancel_before_the_first_dispatch_starts_nothing():
    started = []
    executor = SimulatedExecutor()
    pipeline = pipeline_of(Task("t", lambda: started.append(1)))

    class Eager(SimulatedExecutor):
        def open(self, plan, inputs):
            os.kill(os.getpid(), signal.SIGINT)
            return super().open(plan, inputs)

    executor = Eager()
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(executor=executor)
    assert started == []
    assert pipeline.last_run.status == "CANCELLED"


class ExplodesInTheCoordinator(Exception):
    def __reduce__(self):
        return _explode, (os.getpid(),)


def _explode(worker_pid):
    if os.getpid() != worker_pid:
        raise SystemExit("a user's exception was unpickled in the coordinator")
    return ExplodesInTheCoordinator()


def test_a_users_exception_is_not_unpickled_to_log_it():
    def action():
        raise ExplodesInTheCoordinator

    run = pipeline_of(Task("t", action, retries=1, retry_delay=0.0)).run(executor="process")
    assert len(run.tasks["t"].attempts) == 2
    assert isinstance(run.failures["t"], TaskError)


def test_why_a_run_was_stopped_is_said():
    pipeline = pipeline_of(Task("t", lambda: 1))
    run = pipeline.run(executor=SimulatedExecutor(script={"t": hang()}), timeout=5)
    assert "its timeout of 5 s is over" in run.explain("t")
    with pytest.raises(Exception, match="its timeout of 5 s is over"):
        run.raise_for_failure()


def test_retries_are_not_charged_for_what_never_started():
    script = {"t": [fail(after_s=1), succeed("ok")]}
    executor = SimulatedExecutor(script=script)
    run = pipeline_of(Task("t", lambda: 1, retries=1, retry_delay=2, retry_jitter=0)).run(executor=executor)
    assert run["t"] == "ok"
    assert executor.now_s == 3.0
