"""Schedules: when runs start, when they do not, what is told. Real pipelines, no sleeping."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import apscheduler.schedulers.base
import pytest
from loguru import logger
from schedule_parts import NEVER_S, PATIENCE_S, SOON_S, pipeline_of, said, until

from dremioframe.orchestration import (
    Pipeline,
    PipelineRun,
    ProcessExecutor,
    RunFailedError,
    ScheduleHandle,
    Task,
    cadence,
    schedule_pipeline,
)
from dremioframe.orchestration.cadence import Every, missed_in_words, skipped_in_words
from dremioframe.orchestration.schedule import RUNS_KEPT

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    assert len([line for line in log if "Traceback" in line]) == 2  # each run has told where already
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


def test_a13_an_on_run_that_takes_its_time_delays_the_next_run_and_nothing_else() -> None:
    spans: list[tuple[float, float]] = []

    def on_run(run: PipelineRun) -> None:
        began = time.monotonic()
        time.sleep(5 * SOON_S)
        spans.append((began, time.monotonic()))

    handle = schedule_pipeline(pipeline_of(int), SOON_S, max_runs=3, on_run=on_run)
    assert [run.status for run in handle.runs] == ["SUCCESS"] * 3
    assert all(ended <= began for (_, ended), (began, _) in pairwise(spans))


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


@pytest.mark.skipif(sys.platform != "linux", reason="worker processes are Linux only so far")
def test_closing_its_executor_ends_it(log: list[str]) -> None:
    executor = ProcessExecutor(max_workers=1)
    seen: list[PipelineRun] = []

    def close(run: PipelineRun) -> None:
        seen.append(run)
        executor.close()

    handle = schedule_pipeline(pipeline_of(int), SOON_S, executor=executor, on_run=close)
    assert [run.status for run in seen] == ["SUCCESS"]
    assert handle.run_count == 2
    (line,) = said(log, "its scheduled run raised, and the schedule ends")
    assert "ExecutorClosedError" in line


@pytest.fixture
def deaf() -> Iterator[list[str]]:
    """What was told to a sink that raises, and wants to be heard about it."""
    told: list[str] = []

    def sink(message: str) -> None:
        told.append(message)
        raise OSError("disk full")

    number = logger.add(sink, catch=False, format="{message}")
    yield told
    logger.remove(number)


def test_a_sink_that_raises_ends_no_schedule(deaf: list[str]) -> None:
    """Neither what is told of runs, nor of slots, nor of the end."""
    go_on = threading.Event()

    def action() -> None:
        if handle.run_count == 0:
            assert go_on.wait(PATIENCE_S)
        raise ValueError("a run that has more to tell")

    handle: ScheduleHandle = schedule_pipeline(
        pipeline_of(lambda: action()), SOON_S, max_runs=3, blocking=False, raise_on_failure=True
    )
    until(lambda: handle._skipped > 0)
    go_on.set()
    try:
        assert handle.wait(PATIENCE_S)
    finally:
        handle.stop()
    assert (handle.run_count, len(handle.runs)) == (3, 3)
    assert len(said(deaf, "its scheduled run raised")) == 3
    assert said(deaf, "skipped")


def test_a_sink_that_raises_hinders_no_signal(deaf: list[str]) -> None:
    handle = schedule_pipeline(pipeline_of(lambda: os.kill(os.getpid(), signal.SIGTERM)), NEVER_S)
    assert handle.run_count == 1
    assert said(deaf, "schedule ends")


def test_a_value_may_stop_the_schedule_when_it_dies() -> None:
    class Dying:
        def __del__(self) -> None:
            schedule.stop()
            died.set()

    died = threading.Event()
    schedule = schedule_pipeline(pipeline_of(Dying), 0.001, max_runs=10 * RUNS_KEPT, blocking=False)
    assert schedule.wait(PATIENCE_S)
    assert died.is_set()
    assert schedule.run_count < 10 * RUNS_KEPT


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
    until(lambda: handle._skipped >= 5)  # one that is due when the run ends may be made up for instead
    go_on.set()
    assert handle.wait(PATIENCE_S)
    assert most == [1]
    assert handle.run_count == 2
    (line,) = said(log, "due runs were skipped while one went on")[:1]
    assert line.startswith("WARNING: pipeline 'nightly': ")
    assert int(line.split()[3]) >= 5


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


def test_slots_are_told_in_the_singular_too() -> None:
    assert missed_in_words(1) == "1 due run was missed; one makes up for it"
    assert skipped_in_words(1) == "1 due run was skipped while one went on"


def test_s4_a_long_gap_costs_nothing() -> None:
    every = Every(timedelta(milliseconds=1), lambda slots: None)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert every.get_next_fire_time(start, start + timedelta(days=3650)) > start


def test_s4_missed_runs_are_logged_by_the_run_that_makes_up_for_them(log: list[str]) -> None:
    handle = schedule_pipeline(pipeline_of(int), NEVER_S, blocking=False)
    until(lambda: handle.run_count == 1)
    until(lambda: "dremioframe-schedule" not in [thread.name for thread in threading.enumerate()])  # its turn is over
    now = datetime.now(UTC)
    handle._job.modify(next_run_time=now - timedelta(seconds=3 * NEVER_S + 1))  # as after a suspension
    until(lambda: handle.run_count == 2)
    assert handle.next_run_at is not None
    assert handle.next_run_at > now
    handle.stop()
    assert handle.wait(PATIENCE_S)
    assert len(said(log, "WARNING: pipeline 'nightly': 3 due runs were missed; one makes up for them")) == 1


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


# --------------------------------------------------------------------------------------------------------------- clock


class JumpingDatetime(datetime):
    """A clock on the wall that somebody sets forwards by a day, back by two, and so on: at each look."""

    day = timedelta(days=1)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        cls.day = -cls.day
        assert tz is not None
        return tz.fromutc((datetime.now(UTC) + cls.day).replace(tzinfo=tz))  # as datetime.now does


@pytest.mark.parametrize("interval_s", [SOON_S, 3600.0])
def test_o25_a_wall_clock_that_is_set_moves_no_slot(interval_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", JumpingDatetime)
    monkeypatch.setattr(cadence, "datetime", JumpingDatetime)
    handle = schedule_pipeline(pipeline_of(int), interval_s, max_runs=3, blocking=False)
    if interval_s == SOON_S:
        assert handle.wait(PATIENCE_S)
    else:
        until(lambda: handle.run_count == 1)
        assert not handle.wait(10 * SOON_S)
        handle.stop()
        assert handle.run_count == 1


def test_the_next_run_is_told_by_the_clock_on_the_wall_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = schedule_pipeline(pipeline_of(int), NEVER_S, blocking=False)
    until(lambda: handle.run_count == 1)
    due = handle.next_run_at
    assert due == handle.next_run_at
    assert due is not None

    class Set(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + timedelta(hours=1 if tz is UTC else 0)

    monkeypatch.setattr(cadence, "datetime", Set)
    assert handle.next_run_at is not None
    assert abs(handle.next_run_at - due - timedelta(hours=1)) < timedelta(seconds=0.1)
    handle.stop()
