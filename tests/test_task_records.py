"""Records of tasks and attempts: errors are made when they are read, anew each time, and by reading nothing else."""

from __future__ import annotations

import copy
import os
import pickle
import threading
import time
import traceback

import pytest

from dremioframe.orchestration import OrchestrationError, Pipeline, PipelineRun, RunFailedError, Task, TaskError
from dremioframe.orchestration.testing import SimulatedExecutor, fail

MADE_IN = "DREMIOFRAME_TEST_MADE_IN"


class Rebuilt(Exception):
    """Writes down each process that unpickles it."""

    def __reduce__(self):
        return _rebuild, self.args


def _rebuild(*args):
    with open(os.environ[MADE_IN], "a") as file:
        print(os.getpid(), file=file)
    return Rebuilt(*args)


@pytest.fixture
def made_here(tmp_path, monkeypatch):
    """How often this process has unpickled a user's exception."""
    file = tmp_path / "made"
    file.touch()
    monkeypatch.setenv(MADE_IN, str(file))
    return lambda: file.read_text().split().count(str(os.getpid()))


@pytest.fixture
def failed(made_here):
    def action():
        raise Rebuilt("bad")

    return Pipeline("p").add_task(Task("t", action, retries=1, retry_delay=0.0)).run(executor="process")


def test_facts_of_a_task_are_read_without_its_errors(failed, made_here):
    record = failed.tasks["t"]
    assert (record.name, record.status, record.skip_cause, len(record.attempts)) == ("t", "FAILED", None, 2)
    for number, attempt in enumerate(record.attempts, 1):
        assert (attempt.number, attempt.status) == (number, "FAILED")
        assert attempt.worker_pid > 0
        assert attempt.wall_s > 0
    assert "FAILED" in repr(failed.tasks)
    assert "FAILED" in repr(record)
    assert made_here() == 0


def test_explain_says_what_was_raised_without_making_it(failed, made_here):
    text = failed.explain("t")
    assert made_here() == 0
    assert [line for line in text.splitlines() if str(failed.tasks["t"].error) in line]


def test_u1_an_error_is_made_anew_whenever_it_is_read(failed, made_here):
    record, seen = failed.tasks["t"], []
    for read in (lambda: record.error, lambda: record.attempts[1].error, lambda: failed.failures["t"]):
        seen += [read(), read()]
    assert {type(error) for error in seen} == {TaskError}
    assert {type(error.__cause__) for error in seen} == {Rebuilt}
    assert len({str(error) for error in seen}) == 1
    assert len({id(error) for error in seen}) == len({id(error.__cause__) for error in seen}) == len(seen)
    assert made_here() == len(seen)
    assert failed.tasks["t"].attempts[0].error.attempt == 1


def frames_after(read, times=3):
    """How many frames the error has each time that it is raised."""
    counts = []
    for _ in range(times):
        with pytest.raises(OrchestrationError) as caught:
            raise read()
        counts.append(len(traceback.extract_tb(caught.value.__traceback__)))
    return counts


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_u1_raising_an_error_adds_nothing_to_what_is_read_next(executor):
    tasks = [Task("user", lambda: 1 / 0), Task("argument", len, (threading.Lock(),))]
    pipeline = Pipeline("p")
    for task in [*tasks, Task("late", time.sleep, (1,), timeout=0.05)][: 2 if executor == "inline" else 3]:
        pipeline.add_task(task)
    run = pipeline.run(executor=executor)
    for name in run.failures:
        twin = pickle.loads(pickle.dumps(run.tasks[name]))
        for read in (lambda: run.failures[name], lambda: run.tasks[name].error, lambda: twin.error):
            assert frames_after(read) == [1, 1, 1]
            assert str(read()) == str(run.failures[name])
            assert vars(read()) == vars(run.failures[name])


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_the_cause_is_what_was_raised_where_it_was_raised_in_this_process(executor):
    original = ValueError("x")

    def action():
        raise original

    run = Pipeline("p").add_task(Task("t", action)).run(executor=executor)
    assert run.failures["t"].__cause__ is run.tasks["t"].error.__cause__ is original


def test_one_group_has_one_object_for_each_error(failed):
    with pytest.raises(RunFailedError) as first:
        failed.raise_for_failure()
    with pytest.raises(RunFailedError) as second:
        failed.raise_for_failure()
    assert [str(error) for error in first.value.exceptions] == [str(error) for error in second.value.exceptions]
    assert first.value.exceptions[0] is not second.value.exceptions[0]
    assert first.value.split(TaskError)[0].exceptions[0] is first.value.exceptions[0]


def test_records_can_be_copied_and_pickled_on_their_own():
    run = Pipeline("p").add_task(Task("t", lambda: 1 / 0)).add_task(Task("good", int)).run()
    for twin in (copy.deepcopy(run.tasks["t"]), pickle.loads(pickle.dumps(run.tasks["t"]))):
        assert twin == run.tasks["t"]
        assert twin.attempts == run.tasks["t"].attempts
        assert isinstance(twin.error.__cause__, ZeroDivisionError)
        assert str(twin.error) == str(twin.attempts[0].error)
    assert pickle.loads(pickle.dumps(run.tasks["good"])) == run.tasks["good"]
    assert run.tasks["good"].error is run.tasks["good"].attempts[0].error is None


def test_a_task_without_attempts_has_no_error():
    pipeline = Pipeline("p")
    a, b = Task("a", int), Task("b", int)
    a.set_downstream(b)
    run = pipeline.add_task(a).add_task(b).run(executor=SimulatedExecutor(script={"a": fail()}))
    assert isinstance(run, PipelineRun)
    assert (run.tasks["b"].attempts, run.tasks["b"].error) == ([], None)
