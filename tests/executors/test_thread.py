"""What is peculiar to threads: they cannot be stopped, and share everything."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from dremioframe.orchestration import Pipeline, Task, ThreadExecutor


def pipeline_of(*tasks):
    pipeline = Pipeline("p")
    for each in tasks:
        pipeline.add_task(each)
    return pipeline


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_a_predicate_may_do_anything(executor):
    class Odd(type):
        def __subclasscheck__(cls, kind):
            raise SystemExit

    class Hostile(Exception, metaclass=Odd):
        pass

    def quits(error):
        raise SystemExit("from the predicate")

    def fails():
        raise ValueError("x")

    tasks = [Task("a", fails, retries=3, retry_on=quits), Task("b", fails, retries=3, retry_on=Hostile)]
    run = pipeline_of(*tasks, Task("c", lambda: 1)).run(executor=executor)
    assert run["c"] == 1
    for name in ("a", "b"):
        assert len(run.tasks[name].attempts) == 1
        assert "retry_on itself raised SystemExit" in run.explain(name)


def test_a_stopped_run_leaves_its_threads_behind_and_names_them():
    release = threading.Event()
    stuck = Task("stuck", release.wait)
    waiting = Task("waiting", lambda: 1)
    executor = ThreadExecutor(max_workers=1, kill_grace_s=0.05)
    run = pipeline_of(stuck, waiting).run(executor=executor, timeout=0.1)
    assert (run.status, stuck.status, waiting.status) == ("CANCELLED", "CANCELLED", "CANCELLED")
    release.set()


def test_a_late_thread_does_not_see_released_values():
    seen = []
    timed_out = threading.Event()

    def reader(context):
        timed_out.wait(30)
        try:
            context["source"]
        except KeyError as error:
            seen.append(str(error))
        finished.set()

    finished = threading.Event()
    source, late = Task("source", lambda: [1]), Task("late", reader, timeout=0.05)
    source.set_downstream(late)
    pipeline_of(source, late).run(executor="thread", keep_results="none")
    timed_out.set()
    assert finished.wait(30)
    assert "released" in seen[0]


FORKING = """
import os, signal, sys
from dremioframe.orchestration import {executor}, ExecutorClosedError, Pipeline, Task
parent, child = os.getpid(), None

def fork(*_):
    global child
    child = os.fork()

def ask():
    if child is None:  # the run of the child asks nobody: its parent may still be in its own
        os.kill(parent, signal.SIGUSR1)

def ran():
    os.write(1, b"ran\\n")

signal.signal(signal.SIGUSR1, fork)
first = Task("first", ask)
pipeline = Pipeline("p").add_task(first)
for i in range(3):
    pipeline.add_task(first.set_downstream(Task(f"later {{i}}", ran)))
with {executor}(max_workers=2) as executor:
    for _ in range(2):
        try:
            pipeline.run(executor=executor, timeout=20)
        except ExecutorClosedError as error:
            print(error, file=sys.stderr, flush=True)
        else:
            break
    if not child:
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), pipeline.last_run.status)
"""


@pytest.mark.parametrize(
    ("executor", "times", "again"),
    [
        ("ThreadExecutor", 6, ""),  # the child may well begin a run of its own
        ("ProcessExecutor", 3, "the process pool was used after fork: it belongs to the parent process"),
    ],
)
def test_a_child_that_a_signal_handler_forks_has_no_part_in_the_run(executor, times, again):
    script = FORKING.format(executor=executor)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "ran\n" * times + "7 SUCCESS\n", done
    assert "the run of pipeline 'p' goes on in the parent process, not after fork" in done.stderr
    assert again in done.stderr  # whole lines of parent and child may meet
