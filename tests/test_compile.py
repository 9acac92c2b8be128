"""Every definition error that takes more than one task to see, word for word, and the graph that comes out."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from dremioframe.orchestration.compile import compile_tasks
from dremioframe.orchestration.dag.retry_policy import NO_RETRY, RetryPolicy
from dremioframe.orchestration.dag.trigger_rules import TriggerRule
from dremioframe.orchestration.errors import DefinitionError
from dremioframe.orchestration.task import Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def nothing() -> None:
    pass


def ask(context: object = None) -> None:
    pass


def tasks_named(*names: str) -> list[Task]:
    return [Task(name, nothing) for name in names]


def refusal(tasks: Sequence[Task], run_values: Mapping[str, object] | None = None) -> str:
    with pytest.raises(DefinitionError) as caught:
        compile_tasks(tasks, run_values)
    assert caught.value.__cause__ is None
    return str(caught.value)


# --------------------------------------------------------------------------------------------------------- what is made


def test_no_tasks() -> None:
    assert compile_tasks([]).n == 0


def test_edges_and_order_of_declaration() -> None:
    a, b, c = tasks_named("a", "b", "c")
    c.set_downstream(a).set_downstream(b)
    c.set_downstream(b)
    dag = compile_tasks([a, b, c])
    assert dag.names == ("a", "b", "c")
    assert dag.upstreams == ((2,), (0, 2), ())
    assert dag.downstreams == ((1,), (), (0, 1))
    assert dag.order == (2, 0, 1)


def test_upstreams_keep_the_order_in_which_they_were_drawn() -> None:
    a, b, c = tasks_named("a", "b", "c")
    c.set_upstream(b)
    c.set_upstream(a)
    c.set_upstream(b)
    assert compile_tasks([a, b, c]).upstreams[2] == (1, 0)


def test_options_are_taken_over() -> None:
    policy = {"retries": 2, "retry_delay": 0.5, "retry_backoff": 3.0, "retry_max_delay": 9.0, "retry_jitter": 0.0}
    tasks = [
        Task("a", nothing),
        Task("b", ask, priority=-4, trigger_rule="all_done", **policy),  # type: ignore[arg-type]
        Task("c", ask, trigger_rule=TriggerRule.ALWAYS, **policy),  # type: ignore[arg-type]
        Task("d", ask, kwargs={"context": 1}),
        Task("e", nothing, retry_delay=7.0),
    ]
    dag = compile_tasks(tasks, {"date": 1})
    assert dag.rules == ("all_success", "all_done", "always", "all_success", "all_success")
    assert all(type(rule) is TriggerRule for rule in dag.rules)
    assert dag.policies[1] == RetryPolicy(2, 0.5, 3.0, 9.0, 0.0)
    assert dag.policies[1] is dag.policies[2]
    assert dag.policies[0] is dag.policies[4] is NO_RETRY
    assert dag.priority == (0, -4, 0, 0, 0)
    assert dag.takes_context == (False, True, True, False, False)


def test_actions_are_told_apart_when_asked_for_context() -> None:
    tasks = [Task(f"t{i}", action) for i, action in enumerate([ask, nothing, ask, nothing])]
    tasks.append(Task("bound", ask, args=(1,)))
    assert compile_tasks(tasks).takes_context == (True, False, True, False, False)


def test_d5_one_task_may_be_in_two_pipelines() -> None:
    (a,) = tasks_named("a")
    assert compile_tasks([a]) is not compile_tasks([a])


# ------------------------------------------------------------------------------------------------------ what is refused


def test_a_cycle_is_named_along_its_edges() -> None:
    a, b, c = tasks_named("a", "b", "c")
    a.set_downstream(b).set_downstream(c).set_downstream(b)
    assert refusal([a, b, c]) == "Pipeline contains a cycle: b -> c -> b"


def test_d1_the_cycle_of_the_contract() -> None:
    a, b = tasks_named("a", "b")
    a.set_downstream(b).set_downstream(a)
    assert refusal([a, b]) == "Pipeline contains a cycle: a -> b -> a"


def test_d2_a_task_before_itself() -> None:
    (a,) = tasks_named("a")
    a.set_downstream(a)
    assert refusal([a]) == "Pipeline contains a cycle: a -> a"


def test_a_huge_cycle_is_cut_short() -> None:
    tasks = tasks_named(*(f"t{i}" for i in range(1000)))
    for up, down in zip(tasks, [*tasks[1:], tasks[0]], strict=True):
        up.set_downstream(down)
    text = refusal(tasks)
    assert text.startswith("Pipeline contains a cycle: t0 -> t1 -> ")
    assert text.endswith(" -> t98 -> ... (901 more) -> t0")


def test_d3_duplicate_names() -> None:
    text = "Pipeline contains duplicate task names: 'a' (3 tasks), 'b' (2 tasks)"
    assert refusal(tasks_named("a", "b", "c", "a", "b", "a")) == text


def test_the_same_task_twice() -> None:
    (a,) = tasks_named("a")
    assert refusal([a, a]) == "Pipeline contains duplicate task names: 'a' (2 tasks)"


def test_d4_an_upstream_that_was_never_added() -> None:
    a, b = tasks_named("a", "b")
    a.set_downstream(b)
    text = (
        "Pipeline contains edges to tasks that were never added: 'a' -> 'b' ('a' is missing); add them with add_task()"
    )
    assert refusal([b]) == text


def test_d4_a_downstream_that_was_never_added() -> None:
    a, b = tasks_named("a", "b")
    a.set_downstream(b)
    text = (
        "Pipeline contains edges to tasks that were never added: 'a' -> 'b' ('b' is missing); add them with add_task()"
    )
    assert refusal([a]) == text


def test_all_loose_ends_are_named_once() -> None:
    a, b, c, d = tasks_named("a", "b", "c", "d")
    a.set_downstream(b).set_downstream(c).set_downstream(d)
    assert refusal([b, c]) == (
        "Pipeline contains edges to tasks that were never added: "
        "'a' -> 'b' ('a' is missing), 'c' -> 'd' ('d' is missing); add them with add_task()"
    )


def test_a_namesake_is_not_the_task_meant() -> None:
    a, b, other_a = tasks_named("a", "b", "a")
    a.set_downstream(b)
    text = (
        "Pipeline contains edges to tasks that were never added: 'a' -> 'b' ('a' is missing); add them with add_task()"
    )
    assert refusal([other_a, b]) == text


def test_a_namesake_is_not_the_task_meant_even_if_the_edges_add_up() -> None:
    a, b, other_a, c = tasks_named("a", "b", "a", "c")
    a.set_downstream(b)
    other_a.set_downstream(c)
    assert refusal([other_a, b]) == (
        "Pipeline contains edges to tasks that were never added: "
        "'a' -> 'c' ('c' is missing), 'a' -> 'b' ('a' is missing); add them with add_task()"
    )


def test_run_values_with_names_of_tasks() -> None:
    text = "run values must not be named like tasks: 'b', 'a'"
    assert refusal(tasks_named("a", "b"), {"b": 1, "x": 2, "a": 3}) == text


@pytest.mark.parametrize("rule", ["sometimes", [], None])
def test_an_unknown_rule(rule: Any) -> None:
    good, bad = tasks_named("good", "bad")
    bad.trigger_rule = rule  # past the check of Task itself
    assert refusal([good, bad]) == (
        f"unknown trigger rule: task 'bad' has {rule!r}; the rules are all_success, all_failed, all_done, "
        "all_done_min_one_success, all_skipped, one_failed, one_success, one_done, none_failed, "
        "none_failed_min_one_success, none_skipped, always"
    )


def test_bad_numbers_assigned_later() -> None:
    a, b = tasks_named("a", "b")
    b.retries = -1
    assert refusal([a, b]) == "task 'b': retries must be a whole number, 0 or more, not -1"
    b.retries, b.retry_delay = 1, float("nan")
    assert refusal([a, b]) == "task 'b': retry_delay must be a finite number, 0 or more, not nan"
    b.retries, b.priority = 0, 1.5  # type: ignore[assignment]
    assert refusal([a, b]) == "priority must be a whole number: task 'b' has 1.5"


def test_odd_and_huge_names_stay_readable() -> None:
    names = ["", "a\nb", "\0", "\N{SNAKE}", "x" * 1_000_000]
    assert compile_tasks(tasks_named(*names)).names == tuple(names)
    assert len(refusal(tasks_named(*names, *names))) < 500


def test_an_error_names_many_and_counts_the_rest() -> None:
    names = [f"t{i}" for i in range(150)]
    text = refusal(tasks_named(*names, *names))
    assert "'t99' (2 tasks), ... (50 more)" in text
    assert "t100" not in text


def test_a_long_chain_compiles_without_recursion() -> None:
    tasks = tasks_named(*(f"t{i}" for i in range(20_000)))
    for up, down in pairwise(tasks):
        up.set_downstream(down)
    assert compile_tasks(tasks).rank[0] == len(tasks) - 1
