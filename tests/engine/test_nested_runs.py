"""Runs that are started by what another run waits for in the same thread: an error, where they could wait for ever."""

from __future__ import annotations

import errno
import os
import resource
import signal
import time

import pytest

from dremioframe.orchestration import (
    ExecutorClosedError,
    NestedRunError,
    PayloadError,
    Pipeline,
    ProcessExecutor,
    Task,
    WorkerLostError,
    WorkerStartError,
)

ALL_WORKERS = 1


@pytest.fixture
def executor():
    with ProcessExecutor(max_workers=ALL_WORKERS) as executor:
        yield executor
        again = Pipeline("afterwards").add_task(Task("t", int)).run(executor=executor)  # in the thread of both
        assert again["t"] == 0


@pytest.fixture
def nested(executor):
    """Starts a run on the executor of the run that goes on; gives what came of it."""
    return lambda on=executor: Pipeline("inner").add_task(Task("t", lambda: 7)).run(executor=on)["t"]


def kill_oneself():
    os.kill(os.getpid(), signal.SIGKILL)


def test_by_a_signal_handler(executor, nested):
    def signal_parent(pid):
        os.kill(pid, signal.SIGUSR1)
        time.sleep(60)  # the worker is not free; the handler's error ends the run

    previous = signal.signal(signal.SIGUSR1, lambda *_: nested())
    try:
        with pytest.raises(NestedRunError, match="pipeline 'inner'"):
            Pipeline("outer").add_task(Task("t", signal_parent, (os.getpid(),))).run(executor=executor)
    finally:
        signal.signal(signal.SIGUSR1, previous)


refused = []
started_here = []


def wants_retry(error):
    """In this process for a lost worker, and without a closure: an executor cannot be sent along."""
    assert isinstance(error, WorkerLostError)
    try:
        started_here.pop()()
    except NestedRunError as nested_run_error:
        refused.append(nested_run_error)
    return False


def test_by_a_predicate_that_judges_a_lost_worker(executor, nested):
    refused.clear()
    started_here.append(nested)
    run = Pipeline("outer").add_task(Task("t", kill_oneself, retries=1, retry_on=wants_retry)).run(executor=executor)
    assert isinstance(run.failures["t"], WorkerLostError)
    assert len(refused) == 1


class Nesting:
    """Starts a run when it is pickled."""

    def __init__(self, nested):
        self.nested = nested

    def __reduce__(self):
        return int, (self.nested(),)


def test_by_the_pickling_of_an_argument(executor, nested):
    run = Pipeline("outer").add_task(Task("t", abs, (Nesting(nested),))).run(executor=executor)
    error = run.failures["t"]
    assert isinstance(error, PayloadError)
    assert "give it an executor of its own, or use start()" in str(error)


@pytest.mark.parametrize("other", ["process", "thread", "inline"])
def test_another_executor_is_no_matter(executor, nested, other):
    argument = Nesting(lambda: nested(other))
    assert Pipeline("outer").add_task(Task("t", abs, (argument,))).run(executor=executor)["t"] == 7


def test_a_child_forked_meanwhile_is_told_what_concerns_it(executor, nested):
    told, tell = os.pipe()

    def fork_and_nest():
        child = os.fork()
        if not child:
            try:
                nested()
            except ExecutorClosedError as error:
                os.write(tell, str(error).encode())
            os._exit(0)
        os.waitpid(child, 0)
        return 7

    run = Pipeline("outer").add_task(Task("t", abs, (Nesting(fork_and_nest),))).run(executor=executor)
    assert run["t"] == 7
    os.close(tell)
    with open(told, "rb") as heard:
        assert b"the process pool was used after fork" in heard.read()


def test_a_run_that_finds_no_descriptor_to_listen_by_is_one_that_was_cancelled(executor):
    pipeline = Pipeline("p").add_task(Task("t", int))
    pipeline.run(executor=executor)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    held = [os.dup(0)]
    while held[-1] < used:
        held.append(os.dup(0))  # no gap is left below the limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[-1] + 1, hard))
    try:
        with pytest.raises(WorkerStartError, match=os.strerror(errno.EMFILE)):
            pipeline.run(executor=executor)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in held:
            os.close(fd)
    assert pipeline.last_run.status == "CANCELLED"
    assert pipeline.last_run.tasks["t"].status == "CANCELLED"
