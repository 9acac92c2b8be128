"""``make soak``: thousands of runs in one process leave it as it was: descriptors, threads, children, mappings, memory.

Each run has a long result, a failure and a retry. Memory is judged by the slope of the resident set over the runs after
the warm-up (least squares, with its 95 % interval), and by tracemalloc: blocks allocated in the engine's files do not
grow.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import NamedTuple

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task

PACKAGE = str(Path(__file__).resolve().parent.parent / "dremioframe" / "*")
LONG = 300_000
#: At most so many runs in each of so many rounds.
TRACED_RUNS, TRACED_ROUNDS = 300, 10
#: What is replaced now and then comes and goes by some blocks.
MOST_BLOCKS = 30
MOST_SLOPE = 50.0
MEMFD = "/memfd:"


class Belongings(NamedTuple):
    """What this process has; ``shared`` is memory without a name, by descriptors and by mappings of it."""

    descriptors: int
    threads: int
    children: int
    mappings: int
    shared: int


class Soaked(NamedTuple):
    """What a soak left.

    Attributes:
        slope: Bytes of resident memory per run.
        half: Half of the 95 % interval of the slope.
        blocks: By how many blocks the engine's files grew over ``traced_runs`` runs, by tracemalloc.
    """

    runs: int
    before: Belongings
    after: Belongings
    slope: float
    half: float
    blocks: int
    traced_runs: int
    took_s: float

    def problems(self) -> list[str]:
        found = [
            f"{name}: {now - was:+} ({was} -> {now})"
            for name, was, now in zip(Belongings._fields, self.before, self.after, strict=True)
            if now > was and name != "mappings"
        ]
        if self.after.mappings > self.before.mappings + 8:  # the allocator's own arenas come and go
            found.append(f"mappings: {self.before.mappings} -> {self.after.mappings}")
        if self.slope - self.half > MOST_SLOPE:
            found.append(f"memory grows by {self.slope:.0f} +- {self.half:.0f} bytes a run")
        if self.blocks > MOST_BLOCKS:
            found.append(f"the engine's files hold {self.blocks} blocks more after {self.traced_runs} runs")
        return found


def long_result() -> bytes:
    return b"x" * LONG


def fails() -> None:
    raise ValueError("as it is to")


def fails_once(context: dict[str, object]) -> int:
    if context.attempt == 1:  # type: ignore[attr-defined]
        raise OSError("as it is to")
    return len(context["long"])  # type: ignore[arg-type]


def one_run(executor: ProcessExecutor | None) -> None:
    pipeline = Pipeline("soak", max_workers=2)
    first, second = Task("long", long_result), Task("again", fails_once, retries=1, retry_delay=0.0)
    first.set_downstream(second)
    for task in (first, second, Task("fails", fails)):
        pipeline.add_task(task)
    run = pipeline.run(executor=executor or "process")
    if run["again"] != LONG or len(run["long"]) != LONG or set(run.failures) != {"fails"}:  # type: ignore[arg-type]
        sys.exit(f"a wrong run: {run!r} {run.failures}")


def soak(runs: int, warm_up: int, executor: ProcessExecutor | None) -> Soaked:
    began = time.monotonic()
    traced_runs = min(TRACED_RUNS, max(20, runs // 10))
    blocks = traced(executor, traced_runs)  # first: it sees only what was allocated since it began
    for _ in range(warm_up):
        one_run(executor)
    gc.collect()
    before, memory = belongings(), []
    for number in range(runs):
        one_run(executor)
        if number % max(1, runs // 500) == 0:
            memory.append((number, resident()))
    gc.collect()
    after = belongings()
    slope, half = least_squares(memory)
    return Soaked(runs, before, after, slope, half, blocks, traced_runs, time.monotonic() - began)


def traced(executor: ProcessExecutor | None, runs: int) -> int:
    """Growth in the last round, of blocks that the engine allocated and holds; those before it only warm up."""
    tracemalloc.start()
    counts = []
    for _ in range(TRACED_ROUNDS):
        for _ in range(runs):
            one_run(executor)
        gc.collect()
        snapshot = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(inclusive=True, filename_pattern=PACKAGE)]
        )
        counts.append(snapshot)
    tracemalloc.stop()
    grown = counts[-1].compare_to(counts[-2], "lineno")
    return sum(each.count_diff for each in grown)


def belongings() -> Belongings:
    children = 0
    for entry in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{entry}/children", encoding="ascii") as file:
            children += len(file.read().split())
    with open("/proc/self/maps", encoding="utf-8") as file:
        mappings = file.read().splitlines()
    descriptors = [_target(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    shared = sum(MEMFD in what for what in (*descriptors, *mappings))
    return Belongings(len(descriptors), threading.active_count(), children, len(mappings), shared)


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:  # the listing's own
        return ""


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def least_squares(points: list[tuple[int, int]]) -> tuple[float, float]:
    """The slope, and half of its 95 % interval."""
    n = len(points)
    if n < 3:
        return 0.0, 0.0
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    return slope, 1.96 * (rest / (n - 2) / spread) ** 0.5


def warm_soak(runs: int, warm_up: int) -> Soaked:
    with ProcessExecutor(max_workers=2) as executor:
        return soak(runs, warm_up, executor)


def main() -> None:
    from loguru import logger

    logger.remove()
    parser = argparse.ArgumentParser(prog="make soak ARGS=...", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="on one warm executor")
    parser.add_argument("--warm-up", type=int, default=1_000)
    parser.add_argument("--pools", type=int, default=300, help="runs that start a pool each")
    options = parser.parse_args()
    failed = False
    for name, soaked in (
        ("one warm executor", warm_soak(options.runs, options.warm_up)),
        ("a pool for each run", soak(options.pools, min(options.warm_up, 20), None)),
    ):
        problems = soaked.problems()
        print(
            f"{name}: {soaked.runs} runs, {soaked.took_s:.0f} s; {soaked.before} -> {soaked.after}; "
            f"{soaked.slope:.0f} +- {soaked.half:.0f} bytes a run; "
            f"{soaked.blocks:+} blocks in {soaked.traced_runs} runs",
            *problems,
            sep="\n  ",
            flush=True,
        )
        failed = failed or bool(problems)
    sys.exit(failed)


if __name__ == "__main__":
    main()
