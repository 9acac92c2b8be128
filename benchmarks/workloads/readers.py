"""One 256 MB array read by eight tasks: the machine's memory should grow by one copy, and time by the reading only.

Each reader looks at the machine's memory while it holds the array. The floor writes the array once and lets as many
plain processes as there are workers map and sum it, eight times in all.
"""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, cast

from benchmarks import actions, dag_actions, memory, peers
from benchmarks.settings import steady, timed

from .workload import FLOOR, OURS, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.settings import Figures, Settings

FULL_MB = 256
READERS = 8
Reading = tuple[float, int, int]


def measure(contestant: str, settings: Settings) -> Figures:
    megabytes = settings.sized(FULL_MB)
    if contestant == OURS:
        return measure_ours(megabytes, settings)
    if contestant == FLOOR:
        return measure_floor(megabytes, settings)
    return measure_peer(contestant, megabytes, settings)


def figures_of(megabytes: int, read_all: Callable[[], list[Reading]]) -> Figures:
    read_all()
    size = megabytes * actions.ONE_MB

    def once() -> Figures:
        gc.collect()  # what an earlier run left must not be counted as there before
        available, shared = memory.available_bytes(), memory.shared_bytes()
        readings: list[Reading] = []
        seconds = timed(lambda: readings.extend(read_all()))
        assert [total for total, _, _ in readings] == [actions.expected_sum("numpy", megabytes)] * READERS
        return {
            "s": seconds,
            "copies in the machine's memory": (available - min(seen for _, seen, _ in readings)) / size,
            "copies in shared memory": (max(seen for _, _, seen in readings) - shared) / size,
        }

    return steady(once, seconds=1.5)


def measure_ours(megabytes: int, settings: Settings) -> Figures:
    from dremioframe.orchestration import Task

    from .engine import run_tasks, warm_executor

    with warm_executor(settings.workers, "numpy") as executor:

        def read_all() -> list[Reading]:
            made = Task("make", actions.make_value, ("numpy", megabytes))
            readers = [made.set_downstream(Task(f"read_{n}", dag_actions.read_made)) for n in range(READERS)]
            run = run_tasks("readers", [made, *readers], executor)
            return [cast("Reading", run[reader.name]) for reader in readers]

        return figures_of(megabytes, read_all)


def measure_peer(name: str, megabytes: int, settings: Settings) -> Figures:
    with peers.open_peer(name, settings.workers) as peer:
        peer.warm("numpy")

        def read_all() -> list[Reading]:
            made = peer.passed(peer.submit(actions.make_value, "numpy", megabytes))
            return peer.values([peer.submit(actions.read_and_look, made) for _ in range(READERS)])

        return figures_of(megabytes, read_all)


def measure_floor(megabytes: int, settings: Settings) -> Figures:
    floor_hand_over_and_readers(megabytes, settings.workers)
    return steady(lambda: {"s": timed(lambda: floor_hand_over_and_readers(megabytes, settings.workers))}, seconds=1.5)


def floor_hand_over_and_readers(megabytes: int, workers: int) -> None:
    from .floors import write_segment

    value = actions.make_value("numpy", megabytes)
    descriptor, _ = write_segment([memoryview(value).cast("B")])
    del value
    shares = [len(range(worker, READERS, workers)) for worker in range(workers)]
    children = [_fork_reader(descriptor, share, megabytes) for share in shares]
    os.close(descriptor)
    for child in children:
        _, status = os.waitpid(child, 0)
        assert status == 0


def _fork_reader(descriptor: int, times: int, megabytes: int) -> int:
    from .floors import sum_segment

    child = os.fork()
    if child:
        return child
    right = False
    try:
        right = all(sum_segment(descriptor) == actions.expected_sum("numpy", megabytes) for _ in range(times))
    finally:
        os._exit(not right)


WORKLOADS = (
    Workload(
        "readers",
        lambda settings: f"one {settings.sized(FULL_MB)} MB array read by {READERS} tasks",
        (OURS, FLOOR, "dask", "ray"),
        measure,
        rounds=0.6,
    ),
)
