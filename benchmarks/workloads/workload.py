"""What a workload is: a name, contestants, and a function that measures one of them once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.settings import Figures, Settings

OURS = "ours"
FLOOR = "floor"


@dataclass(frozen=True)
class Workload:
    """Measured in turns; see the package's header for the words.

    Args:
        name: On the command line, and in JSON.
        title: What is measured, given how large.
        contestants: In the order of their turns and of the table.
        measure: One turn: starts, warms, measures and checks one contestant.
        rounds: As a share of what the command line says; long workloads need fewer.
        reference: Whom the table's ratios compare with: a contestant, or ours if None.
        prepare: Done once before the first turn (data to generate).
    """

    name: str
    title: Callable[[Settings], str]
    contestants: tuple[str, ...]
    measure: Callable[[str, Settings], Figures]
    rounds: float = 1.0
    prepare: Callable[[Settings], None] | None = None
    reference: str = OURS
