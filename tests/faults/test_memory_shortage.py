"""A run on a machine that is short of memory all the time: it takes longer, and gets to its end."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from loguru import logger

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task
from dremioframe.orchestration.pool.memory import Memory
from dremioframe.orchestration.pool.shortage import Gauge

SHORT = Memory(10 << 20, 16 << 30)


@pytest.fixture
def log():
    lines = []
    sink = logger.add(lines.append, level="WARNING", format="{message}")
    yield lines
    logger.remove(sink)


def short_of_memory(executor):
    executor._pool._capacity.gauge = Gauge(lambda: SHORT)


def test_o3_nothing_runs_beside_anything_and_the_log_says_so_once(log):
    pipeline = Pipeline("p")
    for i in range(6):
        head, tail = Task(f"head{i}", time.sleep, (0.03,)), Task(f"tail{i}", lambda: None)
        head.set_downstream(tail)
        pipeline.add_task(head).add_task(tail)
    pipeline.add_task(Task("fails", lambda: 1 / 0, retries=1, retry_delay=0.0))
    pipeline.add_task(Task("limited", len, ([],), memory_limit="1GB"))
    with ProcessExecutor(3) as executor:
        short_of_memory(executor)
        run = pipeline.run(executor=executor)
    assert list(run.failures) == ["fails"]
    assert len(run) == 13
    spans = sorted(
        (attempt.started_s, attempt.started_s + attempt.wall_s)
        for record in run.tasks.values()
        for attempt in record.attempts
    )
    assert len(spans) == 15
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    said = [line for line in log if "memory is short" in line]
    assert len(said) == 1
    assert "10 MiB of 16,384 MiB are left" in said[0]


def test_enough_memory_is_not_spoken_of(log):
    pipeline = Pipeline("p")
    for i in range(6):
        pipeline.add_task(Task(f"t{i}", lambda: None))
    assert pipeline.run(executor="process").status == "SUCCESS"
    assert not [line for line in log if "memory" in line]
