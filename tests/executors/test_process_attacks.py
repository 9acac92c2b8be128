"""What an attacker found: each of these once hung a run, or hit a bystander."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from dremioframe.orchestration import PayloadError, Pipeline, ProcessExecutor, Task


def pipeline_of(*tasks):
    pipeline = Pipeline("p")
    for each in tasks:
        pipeline.add_task(each)
    return pipeline


def numbered(count, action):
    return [Task(f"t{number}", action) for number in range(count)]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_r7_recycling_with_a_backlog_and_nothing_else_in_flight(workers, limit):
    with ProcessExecutor(workers, max_tasks_per_worker=limit) as executor:
        run = pipeline_of(*numbered(13, os.getpid)).run(executor=executor, timeout=60)
    assert run.status == "SUCCESS"
    assert len(set(run.values())) >= 13 // limit


def leave_a_thread():
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    return 1


def test_u25_a_worker_that_retires_for_a_thread_is_replaced():
    run = pipeline_of(*numbered(12, leave_a_thread)).run(executor="process", max_workers=1, timeout=60)
    assert (run.status, sum(run.values())) == ("SUCCESS", 12)


@pytest.mark.parametrize("size", range(65_500, 65_545, 4))
def test_p9_values_around_the_length_of_a_packet(size):
    make = Task("make", bytes, (size,))
    read = Task("read", lambda context: (len(context["make"]), len(context["given"])))
    make.set_downstream(read)
    with ProcessExecutor(1) as executor:
        run = pipeline_of(make, read).run(context={"given": bytes(size)}, executor=executor)
    assert run["read"] == (size, size)


def test_u18_an_initializer_that_forks():
    with ProcessExecutor(2, initializer=os.fork) as executor:
        run = pipeline_of(*numbered(8, lambda: 1)).run(executor=executor, timeout=60)
    assert (run.status, len(run)) == ("SUCCESS", 8)


class Hostile(BaseException):
    pass


class RaisesOnPickle:
    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


@pytest.mark.parametrize("error", [Hostile(), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_p2_what_pickling_in_the_coordinator_raises_fails_its_own_task(error):
    given = Task("given", len, (RaisesOnPickle(error),))
    reads = Task("reads", lambda context: context["bad"])
    run = pipeline_of(given, reads, Task("good", lambda: 1)).run(
        context={"bad": RaisesOnPickle(error)}, executor="process"
    )
    assert run["good"] == 1
    assert isinstance(run.failures["given"], PayloadError)
    assert isinstance(run.failures["reads"], PayloadError)


def test_u23_a_task_that_removes_the_working_directory(tmp_path, monkeypatch):
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    remove, later = Task("remove", os.rmdir, (str(folder),)), Task("later", lambda: 1)
    remove.set_downstream(later)
    assert pipeline_of(remove, later).run(executor="process", max_workers=1)["later"] == 1


def test_stderr_stays_the_users_when_first_runs_start_in_many_threads():
    code = """
import sys, threading
from dremioframe.orchestration import Pipeline, Task
before = sys.stderr
pipelines = [Pipeline("p").add_task(Task("t", int)) for _ in range(8)]
threads = [threading.Thread(target=pipeline.run) for pipeline in pipelines]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert sys.stderr is before
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_r17_a_dropped_executor_is_closed_even_if_warnings_are_errors():
    code = """
import gc, warnings
import psutil
from dremioframe.orchestration import Pipeline, ProcessExecutor, Task
executor = ProcessExecutor(1)
Pipeline("p").add_task(Task("t", int)).run(executor=executor)
warnings.simplefilter("error")
del executor
gc.collect()
assert not psutil.Process().children(), psutil.Process().children()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
