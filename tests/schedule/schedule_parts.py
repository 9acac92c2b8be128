"""Pipelines to schedule, and how tests of schedules wait."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from dremioframe.orchestration import Pipeline, Task

if TYPE_CHECKING:
    from collections.abc import Callable


SOON_S = 0.01
NEVER_S = 1e6
PATIENCE_S = 30.0


def pipeline_of(*actions: Callable[..., Any]) -> Pipeline:
    pipeline = Pipeline("nightly", executor="inline")
    for i, action in enumerate(actions):
        pipeline.add_task(Task(f"t{i}", action))
    return pipeline


def said(log: list[str], text: str) -> list[str]:
    return [line for line in log if text in line]


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that gives no signal of its own; the watchdog bounds it."""
    tick = threading.Event()
    while not condition():
        tick.wait(0.001)
