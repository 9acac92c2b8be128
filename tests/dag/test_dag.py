from __future__ import annotations

import pickle
import random
from graphlib import TopologicalSorter

import pytest

from dremioframe.orchestration.dag.dag import CycleError, Dag
from dremioframe.orchestration.dag.retry_policy import NO_RETRY
from dremioframe.orchestration.dag.trigger_rules import TriggerRule


def dag_of(*upstreams: tuple[int, ...]) -> Dag:
    return Dag([f"t{i}" for i in range(len(upstreams))], upstreams)


DIAMOND = ((), (0,), (0,), (2, 1))


def test_an_empty_graph() -> None:
    dag = dag_of()
    assert (dag.n, dag.order, dag.rank, dag.names, dag.index) == (0, (), (), (), {})


def test_a_diamond() -> None:
    dag = dag_of(*DIAMOND)
    assert dag.upstreams == DIAMOND
    assert dag.downstreams == ((1, 2), (3,), (3,), ())
    assert dag.order == (0, 1, 2, 3)
    assert dag.rank == (2, 1, 1, 0)
    assert dag.index == {"t0": 0, "t1": 1, "t2": 2, "t3": 3}
    assert repr(dag) == "<Dag of 4 tasks, 4 edges>"


def test_defaults() -> None:
    dag = dag_of((), ())
    assert dag.rules == (TriggerRule.ALL_SUCCESS,) * 2
    assert dag.policies == (NO_RETRY,) * 2
    assert (dag.priority, dag.takes_context) == ((0, 0), (False, False))


def test_the_same_edge_twice_counts_once() -> None:
    dag = dag_of((), (), (1, 0, 1, 0))
    assert dag.upstreams[2] == (1, 0)
    assert dag.downstreams == ((2,), (2,), ())


def test_order_of_declaration_need_not_be_topological() -> None:
    dag = dag_of((1,), (2,), ())
    assert (dag.order, dag.rank) == ((2, 1, 0), (0, 1, 2))


@pytest.mark.parametrize(
    ("upstreams", "cycle"),
    [
        (((0,),), (0, 0)),
        (((1,), (0,)), (0, 1, 0)),
        (((), (3, 0), (1,), (2,), (3,)), (1, 2, 3, 1)),
        (((1,), (2,), (3,), (1,), (0,)), (1, 3, 2, 1)),
    ],
)
def test_a_cycle_is_refused_and_walks_along_its_edges(upstreams: tuple[tuple[int, ...], ...], cycle: object) -> None:
    with pytest.raises(CycleError) as caught:
        dag_of(*upstreams)
    assert caught.value.cycle == cycle
    assert str(caught.value) == f"tasks form a cycle: {' -> '.join(map(str, caught.value.cycle))}"
    for up, down in zip(caught.value.cycle, caught.value.cycle[1:], strict=False):
        assert up in upstreams[down]
    assert pickle.loads(pickle.dumps(caught.value)).cycle == cycle


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match=r"^task names must be unique$"):
        Dag(["a", "a"], [(), ()])


def test_columns_fit() -> None:
    with pytest.raises(ValueError, match=r"^every column must have one entry for each of the 2 tasks$"):
        Dag(["a", "b"], [(), ()], priority=[1])


@pytest.mark.parametrize("seed", range(100))
def test_against_graphlib(seed: int) -> None:
    rng = random.Random(seed)
    n = rng.randint(1, 15)
    upstreams = [tuple(rng.sample(range(i), rng.randint(0, min(i, 4)))) for i in range(n)]
    dag = dag_of(*upstreams)
    position = {task: place for place, task in enumerate(dag.order)}
    assert sorted(position) == list(range(n))
    assert all(position[up] < position[task] for task in range(n) for up in upstreams[task])
    assert all((up in upstreams[task]) == (task in dag.downstreams[up]) for task in range(n) for up in range(n))
    for task in TopologicalSorter({i: dag.downstreams[i] for i in range(n)}).static_order():
        assert dag.rank[task] == max((dag.rank[below] + 1 for below in dag.downstreams[task]), default=0)
    for task in range(n):
        assert_ancestors(dag, task)


def assert_ancestors(dag: Dag, task: int) -> None:
    distance = {task: 0}
    layer = [task]
    while layer:
        layer = list(dict.fromkeys(up for one in layer for up in dag.upstreams[one] if up not in distance))
        distance |= dict.fromkeys(layer, len(set(distance.values())))
    found = list(dag.ancestors(task))
    assert sorted(found) == sorted(set(distance) - {task})
    assert [distance[one] for one in found] == sorted(distance[one] for one in found)
    assert tuple(found[: len(dag.upstreams[task])]) == dag.upstreams[task]


def test_a_deep_chain_needs_no_recursion() -> None:
    n = 50_000
    dag = dag_of(*[(i - 1,) if i else () for i in range(n)])
    assert dag.rank[0] == n - 1
    assert sum(1 for _ in dag.ancestors(n - 1)) == n - 1
    with pytest.raises(CycleError) as caught:
        dag_of(*[((i - 1) % n,) for i in range(n)])
    assert len(caught.value.cycle) == n + 1
