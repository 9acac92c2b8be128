"""What the process executor sends, when the machine has no room for it; and platforms it is not there on."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from dremioframe.orchestration import PayloadError, Pipeline, ProcessExecutor, Task, WorkerStartError
from dremioframe.orchestration.payload.segments import Segment

LONG = b"x" * 100_000


def refusing(error):
    def create(cls, parts, size, name="dremioframe"):
        raise error

    return classmethod(create)


@pytest.mark.parametrize(
    "refusal", [OSError(errno.EMFILE, "Too many open files"), OSError(errno.ENOMEM, "no memory"), MemoryError("full")]
)
def test_long_arguments_without_room_fail_their_own_attempt(monkeypatch, refusal):
    pipeline = Pipeline("p").add_task(Task("long", len, (LONG,))).add_task(Task("short", len, (b"x",)))
    with ProcessExecutor(max_workers=1) as executor:
        with monkeypatch.context() as patched:
            patched.setattr(Segment, "create", refusing(refusal))
            run = pipeline.run(executor=executor)
        assert run["short"] == 1
        error = run.failures["long"]
        assert isinstance(error, PayloadError)
        assert (error.task, error.stage, error.path) == ("long", "args_transfer", "args")
        assert "there is no place for its" in str(error)
        assert type(refusal).__name__ in str(error)
        assert len(run.tasks["long"].attempts) == 1
        assert pipeline.run(executor=executor)["long"] == len(LONG)


def test_a_long_run_value_without_room_fails_who_reads_it(monkeypatch):
    pipeline = Pipeline("p").add_task(Task("reads", lambda context: len(context["long"]))).add_task(Task("not", int))
    monkeypatch.setattr(Segment, "create", refusing(OSError(errno.EMFILE, "Too many open files")))
    with ProcessExecutor(max_workers=1) as executor:
        run = pipeline.run(context={"long": LONG}, executor=executor)
    assert run["not"] == 0
    error = run.failures["reads"]
    assert isinstance(error, PayloadError)
    assert (error.stage, error.path) == ("context_transfer", "long")
    assert "Too many open files" in str(error)


def test_a_run_whose_own_facts_have_no_room_ends_as_one_that_was_cancelled(monkeypatch):
    """All workers need them: here a long environment. No task is to blame."""
    for name in range(3):
        monkeypatch.setenv(f"LONG_{name}", "x" * 60_000)
    pipeline = Pipeline("p").add_task(Task("t", int))
    with ProcessExecutor(max_workers=1) as executor:
        with monkeypatch.context() as patched:
            patched.setattr(Segment, "create", refusing(OSError(errno.EMFILE, "Too many open files")))
            with pytest.raises(WorkerStartError, match=r"there is no place for its .* Too many open files") as caught:
                pipeline.run(executor=executor)
        assert caught.value.run is pipeline.last_run
        assert pipeline.last_run.status == "CANCELLED"
        assert pipeline.run(executor=executor)["t"] == 0


ELSEWHERE = """
import os, select, sys
import loguru  # asks where Python's own files are, which are not those of a Mac
sys.platform = 'darwin'
for name in ('resource', 'fcntl'):
    sys.modules[name] = None
for name in ('pidfd_open', 'memfd_create'):
    if hasattr(os, name):
        delattr(os, name)
if hasattr(select, 'epoll'):
    del select.epoll
from dremioframe.orchestration import DefinitionError, Pipeline, ProcessExecutor, Task
import dremioframe.orchestration.executors.process
for make in (ProcessExecutor, lambda: Pipeline('p').add_task(Task('t', int)).run(executor='process')):
    try:
        make()
    except DefinitionError as error:
        print(error)
print(Pipeline('p').add_task(Task('t', int)).run(executor='thread')['t'])
"""


def test_elsewhere_it_says_in_one_sentence_that_it_is_not_there():
    result = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    sentence = "executor='process' is not there yet on darwin; use 'thread' or 'inline'"
    assert result.stdout.splitlines() == [sentence, sentence, "0"]


def test_a_numeric_library_is_preloaded_whatever_the_number_of_workers():
    """With more than one thread a worker it would leave threads running, and these do not outlive a fork."""
    with ProcessExecutor(1, preload=["numpy"]) as executor:
        run = Pipeline("p").add_task(Task("t", lambda: "numpy" in sys.modules)).run(executor=executor)
    assert run["t"]
