"""Schedules: when runs start, when they do not, how a schedule ends. Real pipelines, real signals, no sleeping."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pytest
from loguru import logger

from dremioframe.orchestration import (
    DefinitionError,
    NestedRunError,
    OrchestrationError,
    Pipeline,
    PipelineRun,
    ProcessExecutor,
    RunFailedError,
    ScheduleHandle,
    Task,
    schedule_pipeline,
)
from dremioframe.orchestration.cadence import Every
from dremioframe.orchestration.schedule import RUNS_KEPT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOON_S = 0.01
NEVER_S = 1e6
PATIENCE_S = 30.0


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(f"{message.record['level'].name}: {message}"), format="{message}")
    yield lines
    logger.remove(sink)


def pipeline_of(*actions: Callable[..., Any]) -> Pipeline:
    pipeline = Pipeline("nightly", executor="inline")
    for i, action in enumerate(actions):
        pipeline.add_task(Task(f"t{i}", action))
    return pipeline


def said(log: list[str], text: str) -> list[str]:
    return [line for line in log if text in line]


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    "interval", [None, 0, -1, 1e-9, math.nan, math.inf, 10**400, 2e9, True, "60", timedelta(seconds=1)]
)
def test_bad_intervals(interval: Any) -> None:
    with pytest.raises(DefinitionError, match="interval_seconds must be"):
        schedule_pipeline(pipeline_of(int), interval)


@pytest.mark.parametrize("max_runs", [0, -1, 1.0, True, "1"])
def test_bad_max_runs(max_runs: Any) -> None:
    with pytest.raises(DefinitionError, match="max_runs must be"):
        schedule_pipeline(pipeline_of(int), 1, max_runs=max_runs)


def test_numbers_of_numpy_are_numbers() -> None:
    assert schedule_pipeline(pipeline_of(int), np.int64(1000), max_runs=np.int32(1)).run_count == 1  # type: ignore[arg-type]


def test_only_pipelines_are_scheduled() -> None:
    for thing in (Task("t", int), None, Pipeline):
        with pytest.raises(DefinitionError, match="schedule_pipeline takes a Pipeline, not "):
            schedule_pipeline(thing, 1)  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform != "linux", reason="worker processes are Linux only so far")
def test_a_task_in_a_worker_schedules_nothing() -> None:
    def schedules() -> None:
        schedule_pipeline(pipeline_of(int), 1)

    run = Pipeline("p").add_task(Task("t", schedules)).run(executor="process")
    assert isinstance(run.failures["t"], NestedRunError)
    assert "schedule_pipeline() was called in a worker" in str(run.failures["t"])


def test_bad_on_run() -> None:
    with pytest.raises(DefinitionError, match="on_run must be"):
        schedule_pipeline(pipeline_of(int), 1, on_run="print")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"executor": "proces"}, "unknown executor"),
        ({"max_workers": 0}, "max_workers must be"),
        ({"timeout": -1}, "timeout must be"),
        ({"keep_results": "some"}, "keep_results must be"),
        ({"context": {"t0": 1}}, "t0"),
    ],
)
def test_run_options_are_checked_once_before_the_first_run(options: Any, reason: str) -> None:
    with pytest.raises(DefinitionError, match=reason):
        schedule_pipeline(pipeline_of(int), 1, **options)


@pytest.mark.parametrize("name", ["cron", "timezone", "overlap", "jitter", "timeouts"])
def test_options_that_do_not_exist(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        schedule_pipeline(pipeline_of(int), 1, **{name: 1})


def test_a_pipeline_that_cannot_run_is_refused_at_once() -> None:
    pipeline = pipeline_of(int)
    pipeline.tasks[0].set_downstream(pipeline.tasks[0])
    with pytest.raises(DefinitionError, match="cycle: t0 -> t0"):
        schedule_pipeline(pipeline, 1)


# ---------------------------------------------------------------------------------------------------------------- runs


def test_it_runs_max_runs_times_and_blocks_until_then() -> None:
    seen: list[PipelineRun] = []
    count = iter(range(100))
    handle = schedule_pipeline(pipeline_of(lambda: next(count)), SOON_S, max_runs=3, on_run=seen.append)
    assert [run["t0"] for run in handle.runs] == [0, 1, 2]
    assert handle.runs == tuple(seen)
    assert handle.run_count == 3
    assert handle.next_run_at is None
    assert handle.wait(0)


def test_the_first_run_starts_at_once() -> None:
    handle = schedule_pipeline(pipeline_of(lambda: 1), NEVER_S, max_runs=1)
    assert handle.run_count == 1


def test_options_are_passed_to_every_run() -> None:
    runs = schedule_pipeline(
        pipeline_of(lambda context: context["date"]), SOON_S, max_runs=2, context={"date": "today"}
    ).runs
    assert [run["t0"] for run in runs] == ["today", "today"]
    (run,) = schedule_pipeline(pipeline_of(int), SOON_S, max_runs=1, keep_results="none").runs
    with pytest.raises(KeyError, match="keep_results"):
        run["t0"]


def test_it_also_blocks_in_other_threads_and_leaves_signals_alone() -> None:
    handlers: list[Any] = []
    result: list[ScheduleHandle] = []
    pipeline = pipeline_of(lambda: handlers.append(signal.getsignal(signal.SIGTERM)))
    thread = threading.Thread(target=lambda: result.append(schedule_pipeline(pipeline, SOON_S, max_runs=2)))
    before = signal.getsignal(signal.SIGTERM)
    thread.start()
    thread.join(PATIENCE_S)
    assert result[0].run_count == 2
    assert handlers == [before, before]


def test_the_latest_runs_are_kept() -> None:
    count = iter(range(100))
    handle = schedule_pipeline(pipeline_of(lambda: next(count)), 0.001, max_runs=RUNS_KEPT + 3)
    assert [run["t0"] for run in handle.runs] == list(range(3, RUNS_KEPT + 3))
    assert handle.run_count == RUNS_KEPT + 3


def test_s2_a_failed_run_does_not_stop_it() -> None:
    count = iter(range(100))
    handle = schedule_pipeline(pipeline_of(lambda: 1 / next(count)), SOON_S, max_runs=3)
    assert [run.status for run in handle.runs] == ["FAILED", "SUCCESS", "SUCCESS"]


def test_s2_a_run_that_raises_does_not_stop_it_and_is_told(log: list[str]) -> None:
    seen: list[str] = []
    handle = schedule_pipeline(
        pipeline_of(lambda: 1 / 0),
        SOON_S,
        max_runs=2,
        raise_on_failure=True,
        on_run=lambda run: seen.append(run.status),
    )
    assert seen == ["FAILED", "FAILED"]
    assert len(said(log, "pipeline 'nightly': its scheduled run raised")) == 2
    assert RunFailedError.__name__ in said(log, "its scheduled run raised")[0]
    assert handle.run_count == 2


def test_a_pipeline_that_breaks_later_does_not_stop_it_and_is_told(log: list[str]) -> None:
    pipeline = pipeline_of(int)

    def add_a_duplicate(run: PipelineRun) -> None:
        pipeline.add_task(Task("t0", int))

    handle = schedule_pipeline(pipeline, SOON_S, max_runs=3, on_run=add_a_duplicate)
    assert (handle.run_count, len(handle.runs)) == (3, 1)
    assert len(said(log, "DefinitionError")) == 2


@pytest.mark.parametrize("error", [ValueError("boo"), SystemExit(3), KeyboardInterrupt()])
def test_a13_errors_of_on_run_are_logged(error: BaseException, log: list[str]) -> None:
    def on_run(run: PipelineRun) -> None:
        raise error

    assert schedule_pipeline(pipeline_of(int), SOON_S, max_runs=2, on_run=on_run).run_count == 2
    assert len(said(log, "pipeline 'nightly': on_run raised")) == 2


def test_errors_of_on_run_come_with_their_traceback_and_without_values(log: list[str]) -> None:
    def on_run(run: PipelineRun) -> None:
        password = "hush" + run.status
        raise ValueError(len(password))

    schedule_pipeline(pipeline_of(int), SOON_S, max_runs=1, on_run=on_run)
    (line,) = said(log, "on_run raised")
    assert "Traceback (most recent call last):" in line
    assert "in on_run\n" in line
    assert "hushSUCCESS" not in line
    assert "orchestration/schedule.py" not in line


@pytest.mark.skipif(sys.platform != "linux", reason="worker processes are Linux only so far")
def test_a_run_that_found_no_worker_is_reported_too(log: list[str]) -> None:
    def broken() -> None:
        raise RuntimeError("no licence")

    seen: list[PipelineRun] = []
    with ProcessExecutor(max_workers=1, initializer=broken) as executor:
        handle = schedule_pipeline(pipeline_of(int), SOON_S, max_runs=1, executor=executor, on_run=seen.append)
    assert [run.status for run in seen] == ["CANCELLED"]
    assert handle.runs == tuple(seen)
    assert "WorkerStartError" in said(log, "its scheduled run raised")[0]


# ------------------------------------------------------------------------------------------------------------- overlap


def test_s1_a_run_longer_than_the_interval_is_never_overlapped(log: list[str]) -> None:
    started, at_once, most = threading.Semaphore(0), [0], [0]
    go_on = threading.Event()

    def action() -> None:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        started.release()
        assert go_on.wait(PATIENCE_S)
        at_once[0] -= 1

    handle = schedule_pipeline(pipeline_of(action), SOON_S, max_runs=2, blocking=False)
    assert started.acquire(timeout=PATIENCE_S)
    first = handle.next_run_at
    assert first is not None
    _until(lambda: handle.next_run_at is not None and handle.next_run_at > first + timedelta(seconds=5 * SOON_S))
    go_on.set()
    assert handle.wait(PATIENCE_S)
    assert most == [1]
    assert handle.run_count == 2
    (line,) = said(log, "due runs were skipped while one went on")[:1]
    assert line.startswith("WARNING: pipeline 'nightly': ")
    assert int(line.split()[3]) >= 5


def _until(condition: Callable[[], bool]) -> None:
    """Wait for something that gives no signal of its own; the watchdog bounds it."""
    tick = threading.Event()
    while not condition():
        tick.wait(0.001)


def test_s4_missed_slots_are_made_up_for_by_one_run_and_told() -> None:
    told: list[int] = []
    every = Every(timedelta(seconds=10), told.append)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    at = [start + timedelta(seconds=10 * i) for i in range(100)]
    assert every.get_next_fire_time(None, start) == start
    assert every.get_next_fire_time(at[0], at[0]) == at[1]
    assert every.get_next_fire_time(at[1], at[1] + timedelta(seconds=9)) == at[2]
    assert told == []
    for _ in range(2):  # APScheduler asks twice
        assert every.get_next_fire_time(at[2], at[50] + timedelta(seconds=1)) == at[51]
    assert told == [48]
    assert every.get_next_fire_time(at[51], at[52]) == at[53]
    assert told == [48, 1]


def test_s4_a_long_gap_costs_nothing() -> None:
    every = Every(timedelta(milliseconds=1), lambda slots: None)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert every.get_next_fire_time(start, start + timedelta(days=3650)) > start


def test_s4_missed_runs_are_logged_by_the_run_that_makes_up_for_them(log: list[str]) -> None:
    handle = schedule_pipeline(pipeline_of(int), NEVER_S, blocking=False)
    _until(lambda: handle.run_count == 1)
    _until(lambda: "dremioframe-schedule" not in [thread.name for thread in threading.enumerate()])  # its turn is over
    now = datetime.now(UTC)
    handle._job.modify(next_run_time=now - timedelta(seconds=3 * NEVER_S + 1))  # as after a suspension
    _until(lambda: handle.run_count == 2)
    assert handle.next_run_at is not None
    assert handle.next_run_at > now
    handle.stop()
    assert handle.wait(PATIENCE_S)
    assert len(said(log, "WARNING: pipeline 'nightly': 3 due runs were missed; one makes up for them")) == 1


# -------------------------------------------------------------------------------------------------------------- handle


class Held:
    """A schedule whose first run waits to be let go."""

    def __init__(self, **options: Any) -> None:
        self.started, self.let_go = threading.Event(), threading.Event()
        self.handle = schedule_pipeline(pipeline_of(self.action), NEVER_S, blocking=False, **options)
        assert self.started.wait(PATIENCE_S)

    def action(self) -> str:
        self.started.set()
        assert self.let_go.wait(PATIENCE_S)
        return "done"


def test_stop_ends_it_after_the_current_run() -> None:
    held = Held()
    assert held.handle.next_run_at is not None
    held.handle.stop()
    held.handle.stop()
    assert held.handle.next_run_at is None
    assert not held.handle.wait(0.01)
    held.let_go.set()
    assert held.handle.wait(PATIENCE_S)
    assert [run["t0"] for run in held.handle.runs] == ["done"]


def test_stop_with_cancel_ends_the_current_run_too() -> None:
    held = Held(executor="thread")
    held.handle.stop(cancel=True)
    assert held.handle.wait(PATIENCE_S)
    held.let_go.set()  # a thread cannot be killed; it was abandoned after the grace period
    assert [run.status for run in held.handle.runs] == ["CANCELLED"]


def test_stop_between_runs_ends_it_at_once() -> None:
    handle = schedule_pipeline(pipeline_of(int), NEVER_S, blocking=False)
    _until(lambda: handle.run_count == 1)
    due = handle.next_run_at
    assert due is not None
    assert due.tzinfo is not None
    assert timedelta(seconds=NEVER_S / 2) < due - datetime.now(UTC) <= timedelta(seconds=NEVER_S)
    handle.stop()
    assert handle.wait(PATIENCE_S)
    assert handle.run_count == 1
    assert repr(handle) == "<schedule of pipeline 'nightly': ended, 1 runs>"


def test_no_further_run_is_announced_during_the_last_one() -> None:
    held = Held(max_runs=1)
    assert held.handle.next_run_at is None
    held.let_go.set()
    assert held.handle.wait(PATIENCE_S)


def test_on_run_may_stop_the_schedule_but_not_wait_for_it(log: list[str]) -> None:
    ready = threading.Event()
    handles: list[ScheduleHandle] = []

    def on_run(run: PipelineRun) -> None:
        assert ready.wait(PATIENCE_S)
        handles[0].stop()
        handles[0].wait()

    handles.append(schedule_pipeline(pipeline_of(int), SOON_S, blocking=False, on_run=on_run))
    ready.set()
    assert handles[0].wait(PATIENCE_S)
    assert handles[0].run_count == 1
    (line,) = said(log, "on_run raised")
    assert OrchestrationError.__name__ in line
    assert "cannot wait for the end of its own schedule" in line


def test_no_thread_stays() -> None:
    before = set(threading.enumerate())
    handles = [schedule_pipeline(pipeline_of(int), SOON_S, blocking=False) for _ in range(5)]
    _until(lambda: all(handle.run_count for handle in handles))
    for handle in handles:
        handle.stop()
    assert all(handle.wait(PATIENCE_S) for handle in handles)
    _until(lambda: set(threading.enumerate()) <= before)


def test_nothing_of_the_users_logging_is_touched() -> None:
    import logging

    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.getLogger("apscheduler").level)
    schedule_pipeline(pipeline_of(int), SOON_S, max_runs=1)
    assert (list(root.handlers), root.level, logging.getLogger("apscheduler").level) == before


# ----------------------------------------------------------------------------------------------------------- warm pool


@pytest.mark.skipif(sys.platform != "linux", reason="worker processes are Linux only so far")
@pytest.mark.parametrize("where", ["run option", "pipeline"])
def test_workers_stay_warm_between_runs_and_go_with_the_schedule(where: str) -> None:
    pipeline = Pipeline("warm", max_workers=1, executor="process" if where == "pipeline" else "thread")
    pipeline.add_task(Task("pid", os.getpid))
    options = {} if where == "pipeline" else {"executor": "process"}
    runs = schedule_pipeline(pipeline, SOON_S, max_runs=3, **options).runs
    (pid,) = {run["pid"] for run in runs}
    assert pid != os.getpid()
    assert not os.path.exists(f"/proc/{pid}")


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


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_runs_ends_it(signum: signal.Signals) -> None:
    with start(body="pass", executor="inline") as process:
        _line_with(process.stderr, "run ended SUCCESS")
        process.send_signal(signum)
        _assert_ended(process, "ended ['SUCCESS'] True\n")
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_a_signal_during_a_run_ends_it_after_that_run(executor: str) -> None:
    with start(body="assert sys.stdin.readline()", executor=executor) as process:
        _line_with(process.stdout, "started")
        process.send_signal(signal.SIGINT)
        _line_with(process.stderr, "schedule ends after the current run")
        print("go on", file=process.stdin, flush=True)
        _assert_ended(process, "ended ['SUCCESS'] True\n")
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="worker processes are Linux only so far")
def test_a_second_signal_cancels_the_run() -> None:
    with start(body="time.sleep(1000)", executor="process") as process:
        _line_with(process.stdout, "started")
        process.send_signal(signal.SIGINT)
        _line_with(process.stderr, "schedule ends after the current run")
        process.send_signal(signal.SIGTERM)
        _assert_ended(process, "ended ['CANCELLED'] True\n")
        assert process.wait(PATIENCE_S) == 0


def test_an_ignored_signal_stays_ignored() -> None:
    ignored = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    with start(body="assert sys.stdin.readline()", executor="thread", before=ignored) as process:
        _line_with(process.stdout, "started")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        _line_with(process.stderr, "schedule ends after the current run")
        print("go on", file=process.stdin, flush=True)
        _assert_ended(process, "ended ['SUCCESS'] True\n")


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
started, go_on, ran = threading.Event(), threading.Event(), threading.Event()
def action():
    started.set()
    go_on.wait()
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
WITH_ITS_LOCK = "handle._lock.acquire(); threading.Timer(1.0, handle._lock.release).start()"


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
