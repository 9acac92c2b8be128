"""Fault scripts: what is killed, stopped or starved, and when. From a seed, or from a file that a failed trial wrote.

What lives here: plain values, the same for real processes and for the virtual clock. What may not: processes.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: What ends a whole pool.
KILLS_OF_ALL = frozenset({"kill_zygote", "kill_sentry"})
#: How often each fault comes, relative to the others.
WEIGHTS = {
    "kill_worker": 10,
    "stop_worker": 4,
    "kill_stopped_worker": 2,
    "kill_grandchild": 3,
    "stop_grandchild": 1,
    "kill_zygote": 1,
    "stop_zygote": 1,
    "kill_sentry": 1,
    "stop_sentry": 1,
    "stop_coordinator": 1,
    "starve": 2,
}


class Fault(NamedTuple):
    """One fault.

    Attributes:
        at_s: Seconds after the runs began.
        what: One of ``WEIGHTS``.
        which: Among those that could be hit, the one of this number, counted round.
        for_s: How long what is stopped or starved remains so.
    """

    at_s: float
    what: str
    which: int
    for_s: float


def random_script(seed: int, mean_gap_s: float = 0.08) -> Iterator[Fault]:
    """Without end: faults are applied as long as the runs go on."""
    dice = random.Random(f"faults {seed}")
    gap_s = mean_gap_s * dice.choice((0.5, 1.0, 3.0))
    at_s = 0.0
    while True:
        at_s += dice.expovariate(1 / gap_s)
        what = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        yield Fault(round(at_s, 4), what, dice.randrange(1 << 16), round(dice.choice((0.005, 0.05, 0.3)), 3))


def kills_only(seed: int, mean_gap_s: float = 0.02) -> Iterator[Fault]:
    """Kills of workers, as a Poisson process."""
    dice = random.Random(f"kills {seed}")
    at_s = 0.0
    while True:
        at_s += dice.expovariate(1 / mean_gap_s)
        yield Fault(round(at_s, 4), "kill_worker", dice.randrange(1 << 16), 0.0)


def to_text(faults: Iterable[Fault]) -> str:
    return "[\n" + ",\n".join(json.dumps(fault) for fault in faults) + "\n]\n"


def from_text(text: str) -> list[Fault]:
    return [Fault(*fault) for fault in json.loads(text)]
