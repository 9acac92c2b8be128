"""What a schedule is not made of: every refusal comes before the first run."""

from __future__ import annotations

import math
import sys
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from schedule_parts import pipeline_of

from dremioframe.orchestration import (
    DefinitionError,
    NestedRunError,
    Pipeline,
    Task,
    schedule_pipeline,
)


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
