"""256 MB from one task to the next, as NumPy array, Arrow table, pandas and Polars frame, each beside its floor."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, cast

from benchmarks import actions, dag_actions, peers
from benchmarks.settings import steady

from .workload import FLOOR, OURS, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.settings import Figures, Settings

FULL_MB = 256
MODULES = {"numpy": ("numpy",), "arrow": ("numpy", "pyarrow", "pyarrow.compute"), "pandas": ("numpy", "pandas")}
MODULES["polars"] = ("numpy", "pyarrow", "polars")
DASK_ELSEWHERE = "dask, to another worker"
CONTESTANTS = (OURS, FLOOR, "concurrent.futures", "loky", "dask", DASK_ELSEWHERE, "ray")


def measure(kind: str, contestant: str, settings: Settings) -> Figures:
    megabytes = settings.sized(FULL_MB)
    if contestant == OURS:
        return measure_ours(kind, megabytes, settings)
    if contestant == FLOOR:
        return measure_floor(kind, megabytes)
    return measure_peer(contestant, kind, megabytes, settings)


def seconds_of(kind: str, megabytes: int, hand_over: Callable[[], tuple[float, object]]) -> Figures:
    """``hand_over`` gives the result and what holds the array: as for the floor, it is given back after the clock."""

    def measured() -> float:
        started = time.perf_counter()
        result, _held = hand_over()
        seconds = time.perf_counter() - started
        assert result == actions.expected_sum(kind, megabytes)
        return seconds

    first_s = measured()  # pays for memory that the machine has not given out yet; Ray's store keeps what it got
    return {**steady(lambda: {"s": measured()}, seconds=1.5), "first one, s": first_s}


def measure_floor(kind: str, megabytes: int) -> Figures:
    from .floors import hand_over_seconds

    actions.wake(MODULES[kind])
    first_s = hand_over_seconds(kind, megabytes)
    return {**steady(lambda: {"s": hand_over_seconds(kind, megabytes)}, seconds=1.5), "first one, s": first_s}


def measure_ours(kind: str, megabytes: int, settings: Settings) -> Figures:
    from dremioframe.orchestration import Task

    from .engine import run_tasks, warm_executor

    with warm_executor(settings.workers, *MODULES[kind]) as executor:

        def hand_over() -> tuple[float, object]:
            made = Task("make", actions.make_value, (kind, megabytes))
            reduced = made.set_downstream(Task("reduce", dag_actions.reduce_made, (kind,)))
            run = run_tasks("hand over", [made, reduced], executor)
            return cast(float, run["reduce"]), run

        return seconds_of(kind, megabytes, hand_over)


def measure_peer(contestant: str, kind: str, megabytes: int, settings: Settings) -> Figures:
    name = "dask" if contestant == DASK_ELSEWHERE else contestant
    with peers.open_peer(name, settings.workers) as peer:
        peer.warm(*MODULES[kind])
        submit = peer.submit_elsewhere if contestant == DASK_ELSEWHERE else peer.submit

        def hand_over() -> tuple[float, object]:
            made = peer.submit(actions.make_value, kind, megabytes)
            passed = peer.passed(made)
            result: float = peer.value(submit(actions.reduce_value, kind, passed))
            return result, (made, passed)

        return seconds_of(kind, megabytes, hand_over)


def _workload(kind: str, what: str) -> Workload:
    return Workload(
        f"hand-over-{kind}",
        lambda settings: f"{settings.sized(FULL_MB)} MB {what} from one task to the next",
        CONTESTANTS,
        partial(measure, kind),
        rounds=1.0 if kind == "numpy" else 0.6,
    )


WORKLOADS = (
    _workload("numpy", "NumPy array"),
    _workload("arrow", "Arrow table"),
    _workload("pandas", "pandas frame"),
    _workload("polars", "Polars frame"),
)
