"""The release counters against the words of the contract, evaluated afresh after every end."""

from __future__ import annotations

import random

import pytest

from dremioframe.orchestration.dag.dag import Dag
from dremioframe.orchestration.machine.release import ReleaseTracker


def may_go(dag: Dag, task: int, finished: set[int], keep_leaves: bool) -> bool:
    if task not in finished or not set(dag.downstreams[task]) <= finished:
        return False
    descendants = [other for other in range(dag.n) if task in dag.ancestors(other)]
    if any(dag.takes_context[other] and other not in finished for other in descendants):
        return False
    return bool(dag.downstreams[task]) or not keep_leaves


@pytest.mark.parametrize("keep_leaves", [False, True])
@pytest.mark.parametrize("seed", range(150))
def test_d15_values_go_exactly_when_the_contract_says(seed: int, keep_leaves: bool) -> None:
    rng = random.Random(seed)
    n = rng.randint(1, 10)
    dag = Dag(
        [f"t{i}" for i in range(n)],
        [tuple(up for up in range(i) if rng.random() < 0.3) for i in range(n)],
        takes_context=[rng.random() < 0.3 for _ in range(n)],
    )
    tracker = ReleaseTracker(dag, keep_leaves=keep_leaves)
    released: set[int] = set()
    finished: set[int] = set()
    for task in rng.sample(range(n), n):  # any order at all: early rules and cancels end tasks before their upstreams
        finished.add(task)
        fresh = tracker.task_finished(task)
        assert not released.intersection(fresh)
        released.update(fresh)
        assert released == {other for other in range(n) if may_go(dag, other, finished, keep_leaves)}
    assert tracker.attentive_below == [0] * n
    assert tracker.holds == [int(keep_leaves and not below) for below in dag.downstreams]
