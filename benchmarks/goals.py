"""The goals: what the engine has promised to reach, as ratios of medians of one run, and whether this run reached them.

What may not live here: how anything is measured. A goal names a workload, a figure, and whom ours is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .series import ratio
from .workloads import scale
from .workloads.etl import ALONE, BY_PART
from .workloads.workload import FLOOR, OURS

if TYPE_CHECKING:
    from .series import Results

CF = "concurrent.futures"


@dataclass(frozen=True)
class Goal:
    """One promise.

    Args:
        text: The promise in words, without its number.
        workload: Its name.
        figure: The label of the figure.
        limit: The ratio, or the figure itself where ``against`` is empty.
        against: Whom we are compared with; of several, the one with the smallest figure.
        at_least: The limit is a lower one.
        turned: Theirs over ours, rather than ours over theirs ("as fast as", for figures in seconds).
        stretch: What we would like.
        subject: Who stands for us.
        unit: What follows the number.
    """

    text: str
    workload: str
    figure: str
    limit: float
    against: tuple[str, ...] = ()
    at_least: bool = False
    turned: bool = False
    stretch: float | None = None
    subject: str = OURS
    unit: str = "x"

    def measured(self, results: Results) -> float | None:
        """What this run says, or None if it cannot."""
        workload = results.get(self.workload)
        if workload is None:
            return None
        ours = workload.median(self.subject, self.figure)
        if not self.against:
            return ours
        theirs = [found for name in self.against if (found := workload.median(name, self.figure)) is not None]
        best = min(theirs, default=None)
        return ratio(best, ours) if self.turned else ratio(ours, best)

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def promise(self) -> str:
        """The number in words."""
        stretch = "" if self.stretch is None else f", stretch {self.stretch:g}"
        return f"{'at least' if self.at_least else 'at most'} {self.limit:g} {self.unit}{stretch}"


def hand_over(kind: str, what: str) -> Goal:
    return Goal(f"{what}, task to task, beside its floor", f"hand-over-{kind}", "s", 1.5, (FLOOR,))


def etl_goals(workload: str, what: str, subject: str = OURS) -> tuple[Goal, Goal]:
    heavy = "CPU-heavy stages, s"
    peers = Goal(f"{what}, speed of the best peer version", workload, "s", 0.95, (CF, "joblib", "dask"))
    alone = Goal(f"{what}, speed-up of CPU-heavy stages", workload, heavy, 1.8, (ALONE,))
    both = (replace(goal, at_least=True, turned=True, subject=subject) for goal in (peers, alone))
    return next(both), next(both)


GOALS = (
    Goal("independent tasks/s, 5,000", "independent", "tasks/s", 12, (CF,), at_least=True, stretch=15),
    Goal("independent tasks/s, 50,000", "independent-many", "tasks/s", 12, (CF,), at_least=True, stretch=15),
    Goal("chain, time a step", "chain", "us/step", 0.30, (CF,), stretch=0.25),
    Goal("NumPy array, task to task, beside its floor", "hand-over-numpy", "s", 1.2, (FLOOR,)),
    Goal("NumPy array, task to task, beside Ray", "hand-over-numpy", "s", 0.4, ("ray",)),
    hand_over("arrow", "Arrow table"),
    hand_over("pandas", "pandas frame"),
    hand_over("polars", "Polars frame"),
    Goal("one input to 8 readers, growth of shared memory", "readers", "copies in shared memory", 1.05, unit="copies"),
    Goal("one input to 8 readers, beside hand-over and reading", "readers", "s", 1.3, (FLOOR,)),
    Goal("fan-out and fan-in, beside as many independent tasks", "fan", "x independent tasks", 2.0),
    Goal("1,000,000 tasks, time a task beside 10,000", "scale", "us/task", 1.15, (scale.SMALL,), subject=scale.HUGE),
    Goal("1,000,000 tasks, memory a task", "scale", "B/task", 900, subject=scale.HUGE, unit="B"),
    Goal("import of Pipeline, Task, task, beside cloudpickle", "imports", "ms", 0.75, ("cloudpickle",)),
    Goal("first result, function of a module", "first-result", "first result, ms", 0.7, (CF,)),
    Goal("first result, function of __main__", "first-result-main", "first result, ms", 1.0, (CF,)),
    Goal("worker replaced after a kill, median", "replacement", "median, ms", 6, unit="ms"),
    Goal("worker replaced after a kill, p99", "replacement", "p99, ms", 15, unit="ms"),
    *etl_goals("flights", "flights ETL"),
    *etl_goals("tpch", "TPC-H ETL by part", subject=BY_PART),
)
