"""The handle of a run beyond its run: the end of the interpreter, errors that are raised again and again."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback

import pytest

from dremioframe.orchestration import ExecutorClosedError, Pipeline, ProcessExecutor, Task


def ended(program, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.split()


STARTED_AT_THE_END = """
import atexit, os, sys, time
from dremioframe.orchestration import Pipeline, Task
def long():
    try:
        open(sys.argv[1], "w").close()
        time.sleep(600)
    finally:
        os.write(1, b"finally\\n")
Pipeline("p").add_task(Task("t", long)).start(executor="process")
mail = Pipeline("q").add_task(Task("t", int))
atexit.register(lambda: print(mail.start(executor="inline").result()["t"], flush=True))
open(sys.argv[1]).close()  # waits until it is there
"""


def test_a14_a_run_that_is_started_at_the_end_takes_no_grace_from_the_others(tmp_path):
    os.mkfifo(tmp_path / "began")
    assert ended(STARTED_AT_THE_END, str(tmp_path / "began")) == ["0", "finally"]


STUCK_INLINE = """
import os, threading
from dremioframe.orchestration import Pipeline, Task
began = threading.Event()
Pipeline("p").add_task(Task("t", lambda: (began.set(), threading.Event().wait()))).start(executor="inline")
began.wait()
print("over")
"""


def test_a14_an_inline_task_that_never_ends_does_not_keep_the_interpreter():
    assert ended(STUCK_INLINE) == ["over"]


MANY_STARTS = """
import atexit
from dremioframe.orchestration import Pipeline, Task
pipeline = Pipeline("p").add_task(Task("t", int))
counts = []
for _ in range(20):
    pipeline.start(executor="process", max_workers=1).result()
    counts.append(atexit._ncallbacks())
print(counts[1] == counts[-1])
"""


def test_f10_starting_registers_nothing_more_for_the_end():
    assert ended(MANY_STARTS) == ["True"]


def test_the_error_of_a_run_does_not_grow_when_it_is_raised_again():
    executor = ProcessExecutor(1)
    executor.close()
    handle = Pipeline("p").add_task(Task("t", int)).start(executor=executor)
    lengths = []
    for _ in range(3):
        with pytest.raises(ExecutorClosedError) as caught:
            handle.result()
        lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert lengths[0] == lengths[1] == lengths[2]
