"""Runs in the background: their end with the interpreter, with a fork, and without a thread."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from dremioframe.orchestration import Pipeline, Task


def script(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_the_interpreters_end_gives_grace_to_processes_whatever_was_started_first(tmp_path):
    said = tmp_path / "said"
    code = f"""
import time
from dremioframe.orchestration import Pipeline, Task
Pipeline("first").add_task(Task("t", int)).start(executor="thread").result()

def action():
    open({str(tmp_path / "started")!r}, "w").close()
    try:
        time.sleep(60)
    finally:
        open({str(said)!r}, "w").write("finally")

handle = Pipeline("second").add_task(Task("t", action)).start(executor="process")
import os
while not os.path.exists({str(tmp_path / "started")!r}):
    handle.wait(0.01)
"""
    done = script(code)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert said.read_text() == "finally"


def test_a_forked_child_ends_without_the_parents_runs():
    code = """
import os, time
from dremioframe.orchestration import Pipeline, Task
handle = Pipeline("p").add_task(Task("t", time.sleep, (0.5,))).start(executor="thread")
pid = os.fork()
if pid == 0:
    raise SystemExit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), handle.result()["t"])
"""
    done = script(code)
    assert done.stdout == "7 None\n", done.stderr


@pytest.mark.parametrize("use", ["done", "wait()", "wait(0)", "result()", "result(0)", "cancel()"])
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_forked_child_is_told_that_a_run_is_its_parents(executor, use, tmp_path):
    code = f"""
import os
from dremioframe.orchestration import ExecutorClosedError, Pipeline, Task
os.mkfifo({str(tmp_path / "gate")!r})

def action():
    return open({str(tmp_path / "gate")!r}).read()

handle = Pipeline("p").add_task(Task("t", action)).start(executor={executor!r})
pid = os.fork()
if pid == 0:
    try:
        handle.{use}
    except ExecutorClosedError as error:
        print(error, handle, flush=True)
        os._exit(7)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), handle.done, flush=True)
open({str(tmp_path / "gate")!r}, "w").write("go on")
print(handle.result()["t"])
"""
    done = script(code)
    assert done.stdout == (
        "the handle of a run of pipeline 'p' was used after fork: the run goes on in the parent process, and its end "
        "cannot be seen from here <run of pipeline 'p': running>\n7 False\ngo on\n"
    ), done.stderr


def test_a_child_that_a_signal_handler_forks_in_the_middle_of_a_wait_is_told():
    code = """
import os, signal, threading, time
from dremioframe.orchestration import ExecutorClosedError, Pipeline, Task
child, forked, started = None, threading.Event(), threading.Event()

def fork(*_):
    global child
    child = os.fork()
    forked.set()

def action():
    started.wait()
    while not handle._done._waiting:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGUSR1)
    return forked.wait()

signal.signal(signal.SIGUSR1, fork)
handle = Pipeline("p").add_task(Task("t", action)).start(executor="thread")
started.set()
try:
    ended = handle.wait()
except ExecutorClosedError:
    os._exit(7)
print(ended, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = script(code)
    assert done.stdout == "True 7\n", done.stderr


def test_a_forked_child_may_read_a_run_that_had_ended():
    code = """
import os
from dremioframe.orchestration import Pipeline, Task
handle = Pipeline("p").add_task(Task("t", int)).start(executor="thread")
handle.wait()
pid = os.fork()
if pid == 0:
    handle.cancel()
    print(handle.done, handle.wait(), handle.result()["t"], flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    done = script(code)
    assert done.stdout == "True True 0\n0\n", done.stderr


def test_no_thread_no_run(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    pipeline = Pipeline("p").add_task(Task("t", lambda: 1))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            pipeline.start(executor="thread")
    pipeline.add_task(Task("u", lambda: 2))
    assert dict(pipeline.run()) == {"t": 1, "u": 2}
