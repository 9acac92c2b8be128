from __future__ import annotations

import random

import pytest

from dremioframe.orchestration.dag.dag import Dag
from dremioframe.orchestration.machine.ready_queue import ReadyQueue


def queue_of(priority: list[int], chains: tuple[int, ...] = ()) -> ReadyQueue:
    """One task per priority; ``chains`` names tasks that have something below them."""
    names = [f"t{i}" for i in range(len(priority) + len(chains))]
    upstreams = [()] * len(priority) + [(task,) for task in chains]
    return ReadyQueue(Dag(names, upstreams, priority=priority + [0] * len(chains)))


def test_an_empty_queue() -> None:
    queue = queue_of([0])
    assert (len(queue), list(queue), queue.pop(3), queue.top_priority()) == (0, [], [], None)


def test_priority_beats_rank_beats_order() -> None:
    queue = queue_of([0, 0, 1, 0], chains=(1,))
    queue.extend([0, 1, 2, 3])
    assert queue.top_priority() == 1
    assert list(queue) == [2, 1, 0, 3]
    assert queue.pop(99) == [2, 1, 0, 3]


def test_equals_go_in_order_of_arrival_and_returned_ones_first() -> None:
    queue = queue_of([0] * 4)
    for task in (2, 0, 3):
        queue.push(task)
    queue.push_front(1)
    assert queue.pop(2) == [1, 2]
    assert queue.pop(2) == [0, 3]


def test_clear_forgets_everything() -> None:
    queue = queue_of([0, 1])
    queue.extend([0, 1])
    queue.clear()
    assert (len(queue), queue.pop(9), queue.top_priority()) == (0, [], None)
    queue.push(1)
    assert queue.pop(9) == [1]


@pytest.mark.parametrize("priority", [-(10**30), -7, -1, 0, 1, 10**30])
def test_top_priority_is_exact_whatever_the_rank(priority: int) -> None:
    queue = queue_of([priority, priority], chains=(0,))
    queue.push(1)
    assert queue.top_priority() == priority
    queue.push(0)
    assert queue.top_priority() == priority
    assert queue.pop(2) == [0, 1]


@pytest.mark.parametrize("limit", [0, -1])
def test_nothing_asked_nothing_given(limit: int) -> None:
    queue = queue_of([0])
    queue.push(0)
    assert (queue.pop(limit), len(queue)) == ([], 1)


@pytest.mark.parametrize("seed", range(50))
def test_against_a_sorted_list(seed: int) -> None:
    rng = random.Random(seed)
    priority = [rng.choice([-3, 0, 0, 9]) for _ in range(30)]
    queue, model, waiting = queue_of(priority), list[int](), list(range(30))
    while waiting or model:
        if waiting and rng.random() < 0.6:
            task = waiting.pop(rng.randrange(len(waiting)))
            queue.push(task)
            model.append(task)
        else:
            model.sort(key=lambda task: -priority[task])  # stable
            limit = rng.randint(0, 5)
            assert queue.pop(limit) == model[:limit]
            del model[:limit]
        assert len(queue) == len(model)
