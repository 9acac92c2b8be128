"""A random pipeline from a seed: the same seed gives the same pipeline, on every machine.

What lives here: what is to be run, as plain values. What may not: faults (``scripts``), code of tasks (``actions``).
"""

from __future__ import annotations

import random
from typing import NamedTuple

EARLY_RULES = ("one_failed", "one_success", "one_done", "always")
RULES = (
    "all_success",
    "all_failed",
    "all_done",
    "all_done_min_one_success",
    "all_skipped",
    *EARLY_RULES,
    "none_failed",
    "none_failed_min_one_success",
    "none_skipped",
)
SIZES = (0, 1, 100, 100, 4_000, 60_000, 70_000, 250_000, 1_000_000)
#: What one attempt may do, and how its record then reads if no fault comes between.
ENDS = {
    "ok": "SUCCESS",
    "child": "SUCCESS",
    "orphan": "SUCCESS",
    "fail": "FAILED",
    "skip": "SKIPPED",
    "exit": "LOST",
    "hang": "TIMED_OUT",
}
MOST_TASKS = 40


class Spec(NamedTuple):
    """One task.

    Attributes:
        upstream: Names of its direct upstreams.
        far: Name of another task above it that it reads too, or "".
        does: What each attempt does; the last one repeats.
        reads: How values come in: "context" or "nothing".
        size: Bytes of its result.
        takes_s: Seconds of work.
    """

    name: str
    upstream: tuple[str, ...] = ()
    far: str = ""
    rule: str = "all_success"
    retries: int = 0
    timeout: float | None = None
    does: tuple[str, ...] = ("ok",)
    reads: str = "nothing"
    size: int = 0
    takes_s: float = 0.0
    priority: int = 0

    def act_of(self, attempt: int) -> str:
        return self.does[min(attempt, len(self.does)) - 1]


class Case(NamedTuple):
    """One pipeline, and how it is run.

    Attributes:
        executor: "warm" (one ProcessExecutor for all runs) or "string" (a pool for each run).
        runs: How often it is run.
        together: Whether the runs go on at the same time.
    """

    seed: int
    specs: tuple[Spec, ...]
    workers: int
    executor: str
    runs: int
    together: bool
    grace_s: float


def random_case(seed: int, tasks: int | None = None) -> Case:
    """``tasks`` makes a large pipeline of short tasks without failures of their own, for counting kills."""
    dice = random.Random(f"case {seed}")
    count = dice.randint(4, MOST_TASKS) if tasks is None else tasks
    shape = dice.choice(("loose", "layers", "chain", "wide", "tree"))
    specs: list[Spec] = []
    above: dict[str, set[str]] = {}
    for number in range(count):
        upstream = tuple(f"t{i}" for i in sorted(_upstreams(dice, shape, number)))
        spec = _plain(dice, number, upstream) if tasks else _odd(dice, number, upstream)
        further = set().union(*(above[name] for name in upstream)) if not tasks else set()
        above[spec.name] = further | set(upstream)
        if spec.reads == "context" and further - set(upstream) and dice.random() < 0.4:
            spec = spec._replace(far=dice.choice(sorted(further - set(upstream))))
        specs.append(spec)
    runs = 1 if tasks else dice.choice((1, 2, 3))
    return Case(
        seed,
        tuple(specs),
        workers=dice.choice((1, 2, 2, 3)) if not tasks else 2,
        executor="warm" if tasks else dice.choice(("warm", "string")),
        runs=runs,
        together=runs > 1 and dice.random() < 0.5,
        grace_s=dice.choice((0.0, 0.05, 0.2)),
    )


def _upstreams(dice: random.Random, shape: str, number: int) -> set[int]:
    if not number:
        return set()
    match shape:
        case "chain":
            return {number - 1} if dice.random() < 0.9 else set()
        case "wide":
            return {0} if number % 7 else set(range(max(0, number - 6), number))
        case "tree":
            return {(number - 1) // dice.randint(2, 3)}
        case "layers":
            first = number // 5 * 5
            return set(dice.sample(range(first - 5, first), dice.randint(1, 4))) if first else set()
        case _:
            near = range(max(0, number - 15), number)
            return set(dice.sample(near, min(len(near), dice.choice((0, 1, 1, 2, 3)))))


def _plain(dice: random.Random, number: int, upstream: tuple[str, ...]) -> Spec:
    """All start from here when kills are counted: nothing fails unless a fault makes it."""
    reads = dice.choice(("context", "nothing"))
    takes_s = dice.choice((0.0, 0.0, 0.001, 0.004))
    return Spec(f"t{number}", upstream, retries=1_000, reads=reads, size=dice.choice((0, 20, 300)), takes_s=takes_s)


def _odd(dice: random.Random, number: int, upstream: tuple[str, ...]) -> Spec:
    timeout = dice.choice((None, None, 0.4, 5.0))
    misdeeds = ["fail", "fail", "skip", "exit"] + ["hang"] * (timeout == 0.4)
    well = dice.choices(("ok", "child", "orphan"), (12, 2, 1))[0]
    does = (well,) if dice.random() < 0.7 else (*dice.choices(misdeeds, k=dice.randint(1, 2)), well)
    rule = dice.choice(RULES) if dice.random() < 0.4 else "all_success"
    reads = "context" if len(does) > 1 or rule != "all_success" else dice.choice(("context", "nothing"))
    return Spec(
        f"t{number}",
        upstream,
        rule=rule,
        retries=dice.choice((0, 1, 2, 4)),
        timeout=timeout,
        does=does,
        reads=reads,
        size=dice.choice(SIZES),
        takes_s=dice.choice((0.0, 0.0, 0.002, 0.01, 0.05)),
        priority=dice.choice((0, 0, 1, -3)),
    )
