"""How a schedule ends: by real signals, with the interpreter, and not in a forked child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import nullcontext
from typing import IO, Any

import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from schedule_parts import NEVER_S, PATIENCE_S, pipeline_of, until

from dremioframe.orchestration import ProcessExecutor, ScheduleHandle, schedule_pipeline

# ------------------------------------------------------------------------------------------------------------- signals

SCRIPT = """
import signal, sys, threading, time
from dremioframe.orchestration import Pipeline, Task, schedule_pipeline
def action():
    print("started", flush=True)
    {body}
    return "done"
pipeline = Pipeline("p", executor={executor!r}).add_task(Task("t", action))
{before}
handle = schedule_pipeline(pipeline, interval_seconds=3600)
print("ended", [str(run.status) for run in handle.runs], signal.getsignal(signal.SIGINT) is before, flush=True)
"""


def start(*, body: str, executor: str, before: str = "") -> subprocess.Popen[str]:
    script = SCRIPT.format(body=body, executor=executor, before=f"{before}\nbefore = signal.getsignal(signal.SIGINT)")
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", script], text=True, **pipes)


def _line_with(stream: IO[str] | None, text: str) -> str:
    assert stream is not None
    for line in stream:
        if text in line:
            return line
    raise AssertionError(f"{text!r} never came")


def _assert_ended(process: subprocess.Popen[str], line: str) -> None:
    last = _line_with(process.stdout, "ended")
    assert process.stderr is not None
    assert last == line, process.stderr.read()


#: Tells when the turn is over: that is a moment after the last line of its run.
TELL_IDLE = """
began = threading.Event()
def tell_idle():
    began.wait()
    while "dremioframe-schedule" in [thread.name for thread in threading.enumerate()]:
        time.sleep(0.001)
    print("idle", flush=True)
threading.Thread(target=tell_idle).start()
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_runs_ends_it(signum: signal.Signals) -> None:
    with start(body="began.set()", executor="inline", before=TELL_IDLE) as process:
        _line_with(process.stderr, "run ended SUCCESS")
        _line_with(process.stdout, "idle")
        process.send_signal(signum)
        assert _line_with(process.stderr, "schedule ends").endswith("schedule ends\n")
        _assert_ended(process, "ended ['SUCCESS'] True\n")
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_a_signal_during_a_run_ends_it_after_that_run(executor: str) -> None:
    with start(body="assert sys.stdin.readline()", executor=executor) as process:
        _line_with(process.stdout, "started")
        process.send_signal(signal.SIGINT)
        _line_with(process.stderr, "schedule ends, after the run that goes on; a second signal cancels that")
        print("go on", file=process.stdin, flush=True)
        _assert_ended(process, "ended ['SUCCESS'] True\n")
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="worker processes are Linux only so far")
def test_a_second_signal_cancels_the_run() -> None:
    with start(body="time.sleep(1000)", executor="process") as process:
        _line_with(process.stdout, "started")
        process.send_signal(signal.SIGINT)
        _line_with(process.stderr, "schedule ends, after the run that goes on; a second signal cancels that")
        process.send_signal(signal.SIGTERM)
        _assert_ended(process, "ended ['CANCELLED'] True\n")
        assert process.wait(PATIENCE_S) == 0


def test_an_ignored_signal_stays_ignored() -> None:
    ignored = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    with start(body="assert sys.stdin.readline()", executor="thread", before=ignored) as process:
        _line_with(process.stdout, "started")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        _line_with(process.stderr, "schedule ends, after the run that goes on; a second signal cancels that")
        print("go on", file=process.stdin, flush=True)
        _assert_ended(process, "ended ['SUCCESS'] True\n")


# ------------------------------------------------------------------------------------------------ interpreter and forks


@pytest.mark.parametrize("state", ["idle", "running"])
def test_the_end_of_the_interpreter_ends_it_quietly(state: str) -> None:
    script = """
import threading, time
from dremioframe.orchestration import Pipeline, Task, schedule_pipeline
ran, started = threading.Event(), threading.Event()
def action():
    started.set()
    {body}
pipeline = Pipeline("p").add_task(Task("t", action))
handle = schedule_pipeline(pipeline, {interval}, blocking=False, on_run=lambda run: ran.set())
{until}.wait()
"""
    idle = {"body": "pass", "interval": 0.001, "until": "ran"}
    running = {"body": "time.sleep(1000)", "interval": 3600, "until": "started"}
    code = textwrap.dedent(script).format(**(idle if state == "idle" else running))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


ON_RUN_THAT_STAYS = """
import threading
from dremioframe.orchestration import Pipeline, Task, schedule_pipeline
begun = threading.Event()
def stay(run):
    begun.set()
    threading.Event().wait()
schedule_pipeline(Pipeline("p").add_task(Task("t", int)), 3600, blocking=False, on_run=stay)
begun.wait()
"""


def test_an_on_run_that_never_returns_does_not_keep_the_interpreter() -> None:
    subprocess.run([sys.executable, "-c", ON_RUN_THAT_STAYS], timeout=PATIENCE_S, check=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_ends_without_the_schedule() -> None:
    script = """
import os, sys, threading
from dremioframe.orchestration import Pipeline, Task, schedule_pipeline
started, go_on = threading.Event(), threading.Event()
def action():
    started.set()
    go_on.wait()
handle = schedule_pipeline(Pipeline("p").add_task(Task("t", action)), 3600, blocking=False)
started.wait()
child = os.fork()
if child:
    _, status = os.waitpid(child, 0)
    print("child ended", status, flush=True)
    go_on.set()
    handle.stop()
    handle.wait()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "child ended 0\n"), done.stderr


FORKING = """
import os, threading
from dremioframe.orchestration import ExecutorClosedError, Pipeline, Task, schedule_pipeline
started, go_on, ran, held, let_go = (threading.Event() for _ in range(5))
def action():
    started.set()
    go_on.wait()
def hold():
    with handle._lock:
        held.set()
        let_go.wait()
pipeline = Pipeline("p").add_task(Task("t", action))
handle = schedule_pipeline(pipeline, 3600, blocking=False, on_run=lambda run: ran.set())
started.wait()
{before}
child = os.fork()
if not child:
    try:
        print({use}, flush=True)
    except ExecutorClosedError as error:
        print(error, flush=True)
    os._exit(0)
print("child ended", os.waitpid(child, 0)[1], flush=True)
let_go.set()
go_on.set()
handle.stop()
print(handle.wait(), handle.run_count)
"""
INHERITED = (
    "the schedule of pipeline 'p' was used after fork: it goes on in the parent process, and can be neither ended nor "
    "waited for from here"
)
AFTER_A_RUN = "go_on.set(); ran.wait()"
AT_ITS_END = "go_on.set(); handle.stop(); handle.wait()"
WITH_ITS_LOCK = "threading.Thread(target=hold).start(); held.wait()"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(
    ("before", "use", "said"),
    [
        ("", "handle.wait()", INHERITED),
        ("", "handle.wait(0)", INHERITED),
        ("", "handle.stop()", INHERITED),
        ("", "handle.stop(cancel=True)", INHERITED),
        ("", "handle.next_run_at", INHERITED),
        (AFTER_A_RUN, "handle.wait()", INHERITED),
        (AFTER_A_RUN, "handle, len(handle.runs), handle.run_count", "<schedule of pipeline 'p': on, 1 runs> 1 1"),
        (WITH_ITS_LOCK, "handle.runs, handle.run_count", "() 0"),
        (WITH_ITS_LOCK, "handle.stop()", INHERITED),
        (AT_ITS_END, "handle.wait(), handle.stop(), handle.next_run_at, len(handle.runs)", "True None None 1"),
    ],
)
def test_a_forked_child_is_told_that_a_schedule_is_its_parents(before: str, use: str, said: str) -> None:
    script = FORKING.format(before=before, use=use)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == f"{said}\nchild ended 0\nTrue 1\n", done.stderr


# ------------------------------------------------------------------------------------------------- interrupted in this


def test_a_stop_that_is_interrupted_ends_the_schedule_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nobody could ever end it, the interpreter's end included."""
    close = ProcessExecutor.close

    def interrupted(executor: ProcessExecutor) -> None:
        signal.raise_signal(signal.SIGINT)
        close(executor)

    handle = schedule_pipeline(pipeline_of(int), NEVER_S, executor="process", blocking=False)
    until(lambda: handle.run_count == 1 and handle._runner is None)
    monkeypatch.setattr(ProcessExecutor, "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        handle.stop()
    assert handle.wait(PATIENCE_S)


class LateError(Exception):
    """What the user's handler raises."""


def test_what_a_handler_raises_ends_a_blocking_schedule_and_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would have its handle."""
    begun: list[ScheduleHandle] = []
    begin = ScheduleHandle._begin

    def noting(handle: ScheduleHandle) -> None:
        begun.append(handle)
        begin(handle)

    def raise_late(number: int, frame: object) -> None:
        raise LateError

    monkeypatch.setattr(ScheduleHandle, "_begin", noting)
    previous = signal.signal(signal.SIGUSR1, raise_late)
    try:
        with pytest.raises(LateError):
            schedule_pipeline(pipeline_of(lambda: os.kill(os.getpid(), signal.SIGUSR1)), NEVER_S)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert begun[0].wait(PATIENCE_S)


@pytest.mark.parametrize("blocking", [False, True])
def test_what_a_handler_raises_while_it_begins_leaves_nothing(blocking: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would have its handle, and the end of the interpreter would wait for what never began."""
    start_scheduler = BackgroundScheduler.start

    def interrupted(scheduler: BackgroundScheduler) -> None:
        start_scheduler(scheduler)
        signal.raise_signal(signal.SIGUSR1)

    def raise_late(number: int, frame: object) -> None:
        raise LateError

    monkeypatch.setattr(BackgroundScheduler, "start", interrupted)
    threads = set(threading.enumerate())
    previous = signal.signal(signal.SIGUSR1, raise_late)
    ours = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with pytest.raises(LateError):
            schedule_pipeline(pipeline_of(int), NEVER_S, blocking=blocking)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == ours
    until(lambda: set(threading.enumerate()) <= threads)


class Interrupting:
    """A lock; a signal comes as soon as it is held for the first time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._signals = [signal.SIGUSR1]

    def __enter__(self) -> None:
        assert self._lock.acquire(timeout=PATIENCE_S), "whoever holds it waits for the signal handler, which waits here"
        while self._signals:
            signal.raise_signal(self._signals.pop())

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@pytest.mark.parametrize("raises", [False, True])
def test_a_signal_handler_may_stop_it_or_raise_in_the_middle_of_stop(raises: bool) -> None:
    handle = schedule_pipeline(pipeline_of(int), NEVER_S, blocking=False)
    until(lambda: handle.run_count == 1 and handle._runner is None)
    heard: list[int] = []

    def hear(number: int, _frame: object) -> None:
        handle.stop()
        heard.append(number)
        if raises:
            raise LateError

    previous = signal.signal(signal.SIGUSR1, hear)
    handle._lock = Interrupting()  # type: ignore[assignment]
    try:
        with pytest.raises(LateError) if raises else nullcontext():
            handle.stop()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert handle.wait(PATIENCE_S)
    assert heard == [signal.SIGUSR1]


FORKED_BY_A_HANDLER = """
import os, signal
from dremioframe.orchestration import ExecutorClosedError, Pipeline, Task, schedule_pipeline
child = None
readable, writable = os.pipe()

def fork(*_):
    global child
    child = os.fork()
    if child:
        os.write(writable, b"!")

def have_it_forked():
    os.kill(os.getpid(), signal.SIGUSR1)
    os.read(readable, 1)  # the schedule goes on until it has been

signal.signal(signal.SIGUSR1, fork)
pipeline = Pipeline("p").add_task(Task("t", have_it_forked))
try:
    handle = schedule_pipeline(pipeline, 0.01, max_runs=3)
except ExecutorClosedError:
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), handle.run_count)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_a_signal_handler_forks_is_told_that_a_blocking_schedule_is_its_parents() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED_BY_A_HANDLER], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "7 3\n", done.stderr
