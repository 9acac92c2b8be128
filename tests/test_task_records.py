"""Records of tasks and attempts: errors are made when they are read, once, and not by reading anything else."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dremioframe.orchestration import Pipeline, PipelineRun, Task, TaskError
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


def test_an_error_is_made_when_it_is_read_and_once(failed, made_here):
    error = failed.tasks["t"].error
    assert isinstance(error, TaskError)
    assert isinstance(error.__cause__, Rebuilt)
    assert made_here() == 1
    record = failed.tasks["t"]
    assert error is record.error is record.attempts[1].error is failed.failures["t"]
    assert made_here() == 1
    first = failed.tasks["t"].attempts[0].error
    assert first is failed.tasks["t"].attempts[0].error is not error
    assert made_here() == 2


def test_readers_in_several_threads_get_the_same_error():
    run = Pipeline("p").add_task(Task("t", lambda: 1 / 0)).run(executor="thread")
    at_once = threading.Barrier(4)

    def read():
        at_once.wait(30)
        return run.tasks["t"].error

    with ThreadPoolExecutor(4) as threads:
        errors = {id(each.result()) for each in [threads.submit(read) for _ in range(4)]}
    assert len(errors) == 1


def test_records_can_be_copied_and_pickled_on_their_own():
    run = Pipeline("p").add_task(Task("t", lambda: 1 / 0)).add_task(Task("good", int)).run()
    for twin in (copy.deepcopy(run.tasks["t"]), pickle.loads(pickle.dumps(run.tasks["t"]))):
        assert twin == run.tasks["t"]
        assert twin.attempts == run.tasks["t"].attempts
        assert isinstance(twin.error.__cause__, ZeroDivisionError)
        assert twin.error is twin.attempts[0].error
    assert pickle.loads(pickle.dumps(run.tasks["good"])) == run.tasks["good"]
    assert run.tasks["good"].error is run.tasks["good"].attempts[0].error is None


def test_a_task_without_attempts_has_no_error():
    pipeline = Pipeline("p")
    a, b = Task("a", int), Task("b", int)
    a.set_downstream(b)
    run = pipeline.add_task(a).add_task(b).run(executor=SimulatedExecutor(script={"a": fail()}))
    assert isinstance(run, PipelineRun)
    assert (run.tasks["b"].attempts, run.tasks["b"].error) == ([], None)
