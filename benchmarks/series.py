"""What the rounds found: every value of every figure of every contestant, and their medians.

What may not live here: how they were found, or how they are shown.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.settings import Figures


@dataclass
class Series:
    """One contestant of one workload. ``reason`` says why there are no figures, or no more of them."""

    values: dict[str, list[float]] = field(default_factory=dict)
    reason: str | None = None

    def add(self, figures: Figures) -> None:
        for label, value in figures.items():
            self.values.setdefault(label, []).append(value)

    def median(self, label: str) -> float | None:
        values = self.values.get(label)
        return statistics.median(values) if values else None


@dataclass
class Measured:
    """One workload."""

    title: str
    reference: str
    contestants: dict[str, Series]

    def labels(self) -> list[str]:
        """Every figure that somebody has, in the order of the first who has it."""
        return list(dict.fromkeys(label for series in self.contestants.values() for label in series.values))

    def median(self, contestant: str, label: str) -> float | None:
        series = self.contestants.get(contestant)
        return series.median(label) if series else None


Results = dict[str, Measured]
"""By name of workload."""


def ratio(above: float | None, below: float | None) -> float | None:
    """None when it cannot be said."""
    return above / below if above is not None and below else None
