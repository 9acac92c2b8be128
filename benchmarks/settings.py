"""What a turn is told, and the small tools every workload measures with.

What may not live here: anything of one workload or of one engine, or an import that would show in a measurement.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Figures = dict[str, float]
"""What one measurement found, by label; the label ends in its unit."""

ROOT = Path(__file__).resolve().parent.parent
SLOW_TASKS_A_SECOND = 1_000
SLOW_SECONDS = 5.0


@dataclass(frozen=True)
class Settings:
    """How large to measure, with how many workers, and where data lie."""

    workers: int = len(os.sched_getaffinity(0))
    scale: float = 1.0
    data: Path = ROOT / "out" / "bench" / "data"
    workflows: Path | None = None

    def sized(self, full: int, at_least: int = 1) -> int:
        """A count that is ``full`` in the real run and smaller in a quick one."""
        return max(at_least, round(full * self.scale))


def timed(function: Callable[[], object]) -> float:
    """Seconds that a call takes, with no garbage of earlier work left to collect in it."""
    gc.collect()
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def steady(measure: Callable[[], Figures], *, seconds: float = 1.0, at_most: int = 5) -> Figures:
    """The medians of several measurements, as many as fit: one that takes 50 ms needs more than one look."""
    until = time.perf_counter() + seconds
    found = [measure()]
    while len(found) < at_most and time.perf_counter() < until:
        found.append(measure())
    return {label: statistics.median(figures[label] for figures in found) for label in found[0]}


def affordable(count: int, seconds_for: Callable[[int], float], probe: int = 20) -> int:
    """How many tasks an engine is given: all, unless it is slow; then what it does in five seconds."""
    rate = probe / seconds_for(probe)
    if rate >= SLOW_TASKS_A_SECOND:
        return count
    return min(count, max(probe, int(rate * SLOW_SECONDS)))
