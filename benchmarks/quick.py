"""No-op tasks per second and microseconds per chain step, beside ``concurrent.futures``, interleaved in one run.

    python benchmarks/quick.py [rounds]

Both pools are warm, have the same number of workers and start them by a fork server; every result is read. Ours is
measured from building the ``Pipeline`` to reading the ``PipelineRun``. Take the ratios: the absolute figures are the
machine's. The full comparison with other engines comes with ``make bench``.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from loguru import logger

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task

TASKS = 5_000
STEPS = 1_000


def nothing() -> None:
    return None


def increment(value: int) -> int:
    return value + 1


def first() -> int:
    return 0


def ours_independent(executor: ProcessExecutor) -> float:
    started = time.perf_counter()
    pipeline = Pipeline("independent")
    for number in range(TASKS):
        pipeline.add_task(Task(f"task_{number}", nothing))
    run = pipeline.run(executor=executor)
    values = [run[name] for name in run]
    taken = time.perf_counter() - started
    assert values == [None] * TASKS
    return TASKS / taken


def theirs_independent(pool: ProcessPoolExecutor) -> float:
    started = time.perf_counter()
    values = [future.result() for future in [pool.submit(nothing) for _ in range(TASKS)]]
    taken = time.perf_counter() - started
    assert values == [None] * TASKS
    return TASKS / taken


def ours_chain(executor: ProcessExecutor, steps: list[Task]) -> float:
    pipeline = Pipeline("chain")
    for task in steps:
        pipeline.add_task(task)
    started = time.perf_counter()
    run = pipeline.run(executor=executor)
    value = run[f"step_{STEPS - 1}"]
    taken = time.perf_counter() - started
    assert value == STEPS - 1
    return taken / STEPS * 1e6


def previous_plus_one(context: Any) -> int:
    number = int(context.task_name.removeprefix("step_"))
    before: int = context[f"step_{number - 1}"]
    return before + 1


def chain_tasks() -> list[Task]:
    tasks = [Task("step_0", first)] + [Task(f"step_{number}", previous_plus_one) for number in range(1, STEPS)]
    for above, below in itertools.pairwise(tasks):
        above.set_downstream(below)
    return tasks


def theirs_chain(pool: ProcessPoolExecutor) -> float:
    started = time.perf_counter()
    value = pool.submit(first).result()
    for _ in range(STEPS - 1):
        value = pool.submit(increment, value).result()
    taken = time.perf_counter() - started
    assert value == STEPS - 1
    return taken / STEPS * 1e6


def main(rounds: int) -> None:
    logger.disable("dremioframe")
    workers = len(os.sched_getaffinity(0))
    figures: dict[str, list[float]] = {}
    context = multiprocessing.get_context("forkserver")
    with ProcessExecutor(workers) as executor, ProcessPoolExecutor(workers, mp_context=context) as pool:
        steps = chain_tasks()
        for _ in range(rounds + 1):  # the first warms both
            figures.setdefault("ours, tasks/s", []).append(ours_independent(executor))
            figures.setdefault("theirs, tasks/s", []).append(theirs_independent(pool))
            figures.setdefault("ours, us a step", []).append(ours_chain(executor, steps))
            figures.setdefault("theirs, us a step", []).append(theirs_chain(pool))
    medians = {name: statistics.median(values[1:]) for name, values in figures.items()}
    for name, median in medians.items():
        spread = f"{min(figures[name][1:]):,.0f} to {max(figures[name][1:]):,.0f}"
        print(f"{name:20} {median:10,.0f}   ({spread})")
    print(f"tasks/s: {medians['ours, tasks/s'] / medians['theirs, tasks/s']:.1f} x concurrent.futures")
    print(f"chain:   {medians['ours, us a step'] / medians['theirs, us a step']:.2f} x concurrent.futures")


if __name__ == "__main__":  # concurrent.futures re-imports this file in its workers
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
