"""Linear in time and without recursion, whatever the shape. Ratios, not seconds: machines differ."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

import pytest

from dremioframe.orchestration.dag.dag import Dag
from dremioframe.orchestration.dag.trigger_rules import TriggerRule
from dremioframe.orchestration.machine.protocol import AttemptFailed, CancelRequested, FinishRun
from dremioframe.orchestration.machine.run_machine import RunMachine
from dremioframe.orchestration.machine.states import RunState, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHAPES: dict[str, Callable[[int], Sequence[Sequence[int]]]] = {
    "independent": lambda n: [()] * n,
    "chain": lambda n: [(i - 1,) if i else () for i in range(n)],
    "fan-in": lambda n: [tuple(range(n - 1)) if i == n - 1 else () for i in range(n)],
    "fan-out": lambda n: [(0,) if i else () for i in range(n)],
    "tree": lambda n: [((i - 1) // 2,) if i else () for i in range(n)],
    "two upstreams": lambda n: [(i - 1, i - 2) if i > 1 else () for i in range(n)],
}


def build(shape: str, n: int) -> Dag:
    return Dag([f"t{i}" for i in range(n)], SHAPES[shape](n), takes_context=[i % 7 == 0 for i in range(n)])


def run(dag: Dag, keep_results: str = "all") -> RunMachine:
    machine = RunMachine(dag, keep_results)
    machine.start()
    while taken := machine.take(32):
        machine.succeeded(taken)
    return machine


def best_of(times: int, shape: str, n: int) -> float:
    """CPU seconds per task of building the graph and running it."""
    best = float("inf")
    for _ in range(times):
        gc.collect()
        start = time.process_time()
        run(build(shape, n), "leaves")
        best = min(best, (time.process_time() - start) / n)
    return best


@pytest.mark.parametrize("shape", SHAPES)
def test_d7_cost_per_task_does_not_grow(shape: str) -> None:
    # Quadratic behaviour would show as a factor of 20; caches and the collector account for less than 4.
    assert best_of(2, shape, 40_000) < 6 * best_of(3, shape, 2_000)


@pytest.mark.parametrize("keep_results", ["all", "leaves", "none"])
@pytest.mark.parametrize("shape", SHAPES)
def test_large_runs_end(shape: str, keep_results: str) -> None:
    machine = run(build(shape, 10_000), keep_results)
    assert (machine.state, machine.unfinished, machine.stale) == (RunState.SUCCESS, 0, 0)


@pytest.mark.parametrize("shape", ["chain", "fan-out", "tree", "two upstreams"])
def test_a_failure_at_the_top_skips_everything_below_without_recursion(shape: str) -> None:
    n = 30_000
    machine = RunMachine(build(shape, n), "none")
    machine.start()
    while taken := machine.take(99):
        commands = machine.handle([AttemptFailed(task, attempt, retryable=True) for task, attempt in taken])
    assert commands[-1] == FinishRun(RunState.FAILED)
    assert machine.task_state(n - 1) is TaskState.SKIPPED
    assert machine.attempt(n - 1) == 0


def test_cancelling_a_large_run() -> None:
    machine = RunMachine(build("two upstreams", 30_000), "leaves")
    machine.start()
    assert machine.take(1) == [(0, 1)]
    assert len(machine.handle([CancelRequested()])) == 30_000
    assert machine.succeeded([(0, 1)])[-1] == FinishRun(RunState.CANCELLED)


def test_a_fan_in_of_early_rules() -> None:
    n = 20_000
    rules = [TriggerRule.ALL_SUCCESS] * (n - 1) + [TriggerRule.ONE_SUCCESS]
    machine = run(Dag([f"t{i}" for i in range(n)], SHAPES["fan-in"](n), rules=rules))
    assert machine.state is RunState.SUCCESS
