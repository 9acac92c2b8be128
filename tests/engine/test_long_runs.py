"""A whole run, declared to read, of a chain and of a fan too long for anything that recurses or adds up lists."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING

import pytest

from dremioframe.orchestration import Pipeline, Task

if TYPE_CHECKING:
    from collections.abc import Iterator

LENGTH = 100_000


@pytest.fixture
def shallow() -> Iterator[None]:
    """Little more stack than pytest itself has taken by now."""
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1  # type: ignore[assignment]
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + 120)
    yield
    sys.setrecursionlimit(before)


def run_and_read(tasks: list[Task]) -> int:
    pipeline = Pipeline("long")
    for task in tasks:
        pipeline.add_task(task)
    run = pipeline.run(executor="inline")
    assert run.status == "SUCCESS"
    return sum(int(run[name]) for name in run)  # type: ignore[call-overload]


@pytest.mark.usefixtures("shallow")
def test_a_chain_of_a_hundred_thousand() -> None:
    tasks = [Task(str(number), int, (number,)) for number in range(LENGTH)]
    for above, below in itertools.pairwise(tasks):
        above.set_downstream(below)
    assert run_and_read(tasks) == LENGTH * (LENGTH - 1) // 2


@pytest.mark.usefixtures("shallow")
def test_one_task_above_and_one_below_twenty_thousand() -> None:
    width = LENGTH // 5
    first, *middle, last = (Task(str(number), int, (number,)) for number in range(width))
    for task in middle:
        first.set_downstream(task)
        task.set_downstream(last)
    assert run_and_read([first, *middle, last]) == width * (width - 1) // 2
