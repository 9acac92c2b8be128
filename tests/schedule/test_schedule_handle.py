"""The handle of a schedule: how one is ended, waited for and asked."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

from schedule_parts import NEVER_S, PATIENCE_S, SOON_S, pipeline_of, said, until

from dremioframe.orchestration import (
    OrchestrationError,
    PipelineRun,
    ScheduleHandle,
    schedule_pipeline,
)


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
    until(lambda: handle.run_count == 1)
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
    until(lambda: all(handle.run_count for handle in handles))
    for handle in handles:
        handle.stop()
    assert all(handle.wait(PATIENCE_S) for handle in handles)
    until(lambda: set(threading.enumerate()) <= before)


def test_nothing_of_the_users_logging_is_touched() -> None:
    import logging

    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.getLogger("apscheduler").level)
    schedule_pipeline(pipeline_of(int), SOON_S, max_runs=1)
    assert (list(root.handlers), root.level, logging.getLogger("apscheduler").level) == before
