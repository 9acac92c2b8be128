"""Does a task cost the same in a large run? Time and coordinator memory per task, ours alone, a fresh process each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks import memory
from benchmarks.settings import steady

from .workload import Workload

if TYPE_CHECKING:
    from benchmarks.settings import Figures, Settings
    from dremioframe.orchestration import ProcessExecutor

SMALL, LARGE, HUGE = "10,000 tasks", "100,000 tasks", "1,000,000 tasks"
CHAIN = "chain of 100,000"
SIZES = {SMALL: 10_000, LARGE: 100_000, HUGE: 1_000_000, CHAIN: 100_000}


def measure(contestant: str, settings: Settings) -> Figures:
    from .chain import run_chain
    from .engine import warm_executor
    from .independent import once

    count = settings.sized(SIZES[contestant], at_least=2)
    with warm_executor(settings.workers) as executor:
        once(executor, 1_000)
        if contestant == SMALL:  # too little to see its memory among the interpreter's own
            return steady(lambda: {"us/task": 1e6 / once(executor, count)["tasks/s"]}, seconds=2.0)
        before = memory.resident_bytes()
        started = time.perf_counter()
        if contestant == CHAIN:
            run_chain(executor, count)
        else:
            _run_independent(executor, count)
        seconds = time.perf_counter() - started
        return {"us/task": seconds / count * 1e6, "B/task": (memory.peak_resident_bytes() - before) / count}


def _run_independent(executor: ProcessExecutor, count: int) -> None:
    """As ``independent.once``, but values are read one by one: a list of them is no part of the run's own memory."""
    from benchmarks import actions
    from dremioframe.orchestration import Task

    from .engine import run_tasks

    run = run_tasks("scale", (Task(f"task_{number}", actions.nothing) for number in range(count)), executor)
    assert len(run) == count
    assert all(run[name] is None for name in run)


WORKLOADS = (
    Workload(
        "scale",
        lambda settings: f"large runs ({settings.sized(SIZES[HUGE], at_least=2):,} tasks the largest)",
        tuple(SIZES),
        measure,
        rounds=0.6,
        reference=SMALL,
    ),
)
