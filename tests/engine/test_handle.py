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
