"""Independent tasks that do nothing: what a task costs.

Ours from building the ``Pipeline`` to having read every value of the ``PipelineRun``. The chunked ``map`` of
``concurrent.futures`` stands beside it without a goal: it has no time-out, retry, record or crash isolation per task.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import actions, peers
from benchmarks.settings import affordable, steady, timed

from .workload import OURS, Workload

if TYPE_CHECKING:
    from benchmarks.settings import Figures, Settings
    from dremioframe.orchestration import ProcessExecutor

CHUNKED = "concurrent.futures, chunked map"
CHUNK = 128


def measure(full: int, contestant: str, settings: Settings) -> Figures:
    count = settings.sized(full)
    if contestant == OURS:
        return measure_ours(count, settings)
    if contestant == CHUNKED:
        return measure_chunked(count, settings)
    return measure_peer(contestant, count, settings)


def measure_ours(count: int, settings: Settings) -> Figures:
    from .engine import warm_executor

    with warm_executor(settings.workers) as executor:
        once(executor, min(count, 1_000))
        return steady(lambda: once(executor, count))


def once(executor: ProcessExecutor, count: int) -> Figures:
    from dremioframe.orchestration import Pipeline, Task

    started = time.perf_counter()
    pipeline = Pipeline("independent")
    for number in range(count):
        pipeline.add_task(Task(f"task_{number}", actions.nothing))
    built = time.perf_counter()
    run = pipeline.run(executor=executor, raise_on_failure=True)
    ran = time.perf_counter()
    values = [run[name] for name in run]
    read = time.perf_counter()
    assert values == [None] * count
    microseconds = 1e6 / count
    return {
        "tasks/s": count / (read - started),
        "build, us/task": (built - started) * microseconds,
        "run, us/task": (ran - built) * microseconds,
        "read, us/task": (read - ran) * microseconds,
    }


def measure_peer(name: str, count: int, settings: Settings) -> Figures:
    with peers.open_peer(name, settings.workers) as peer:

        def seconds_for(tasks: int) -> float:
            return timed(lambda: check(peer.values(peer.submit_many(tasks)), tasks))

        def job() -> Figures:
            peer.warm()
            affordable_count = affordable(count, seconds_for)
            return steady(lambda: {"tasks/s": affordable_count / seconds_for(affordable_count)})

        return peer.within(job)


def measure_chunked(count: int, settings: Settings) -> Figures:
    from benchmarks.peers.concurrent_futures import Pool

    with Pool(settings.workers) as peer:
        peer.warm()

        def once() -> None:
            check(list(peer.executor.map(actions.ignore, range(count), chunksize=CHUNK)), count)

        return steady(lambda: {"tasks/s": count / timed(once)})


def check(values: list[object], count: int) -> None:
    assert values == [None] * count


WORKLOADS = (
    Workload(
        "independent",
        lambda settings: f"{settings.sized(5_000):,} independent tasks that do nothing",
        (OURS, *peers.ALL, CHUNKED),
        partial(measure, 5_000),
    ),
    Workload(
        "independent-many",
        lambda settings: f"{settings.sized(50_000):,} independent tasks that do nothing",
        (OURS, *peers.POOLS, CHUNKED),
        partial(measure, 50_000),
        rounds=0.6,
    ),
)
