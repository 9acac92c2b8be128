"""Declarations: what a task accepts, what it refuses, its edges and its copies."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import sys
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from dremioframe.orchestration import DefinitionError, Task
from dremioframe.orchestration.dag.trigger_rules import TriggerRule
from dremioframe.orchestration.decorators import task as decorate
from dremioframe.orchestration.machine.states import TaskState


def act() -> int:
    return 1


def once(**options: Any) -> Task:
    return Task("t", act, **options)


@decorate
def factory() -> int:
    return 1


# --------------------------------------------------------------------------------------------------------- declaration


def test_defaults() -> None:
    task = once()
    assert (task.args, task.kwargs, task.retries, task.retry_delay) == ((), {}, 0, 1.0)
    assert (task.retry_backoff, task.retry_max_delay, task.retry_jitter) == (2.0, 300.0, 0.1)
    assert (task.retry_on, task.timeout, task.priority, task.on_kill) == (Exception, None, 0, None)
    assert task.trigger_rule == TriggerRule.ALL_SUCCESS
    assert task.status == "PENDING"
    assert repr(task) == "<Task 't'>"


def test_the_first_seven_may_be_positional_and_no_more() -> None:
    task = Task("t", max, (1, 2), {"default": 3}, 4, 5, "all_done")
    assert (task.args, task.kwargs, task.retries, task.retry_delay) == ((1, 2), {"default": 3}, 4, 5.0)
    assert task.trigger_rule is TriggerRule.ALL_DONE
    with pytest.raises(TypeError):
        Task("t", act, (), None, 0, 1.0, "all_done", 2.0)  # type: ignore[misc]


@pytest.mark.parametrize("name", ["cpus", "resources", "executor", "retrys"])
def test_options_that_do_not_exist_are_refused_by_name(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        once(**{name: 1})


@pytest.mark.parametrize("name", ["", " ", "a" * 1_000_000, "\0", "\n", "\N{PILE OF POO}", "../x", "\ud800"])
def test_d14_every_text_is_a_name(name: str) -> None:
    assert Task(name, act).name == name
    repr(Task(name, act))


@pytest.mark.parametrize("name", [None, 1, b"t", ("t",), act])
def test_other_things_are_no_names(name: Any) -> None:
    with pytest.raises(DefinitionError, match="name must be a string"):
        Task(name, act)


def test_a_text_subclass_becomes_plain_text() -> None:
    assert type(Task(TaskState.SUCCESS, act).name) is str


_NO_NUMBERS = [True, False, "1", b"1", None, timedelta(seconds=1), 1j, [1], np.array([1, 2]), np.bool_(1)]
_NAN, _INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("retries", value) for value in [-1, 1.0, 0.5, _NAN, _INF, *_NO_NUMBERS]],
        *[("priority", value) for value in [1.0, _NAN, *_NO_NUMBERS]],
        *[("timeout", value) for value in [0, -1, 0.0, _NAN, _INF, -_INF, 10**400, *_NO_NUMBERS] if value is not None],
        *[("retry_delay", value) for value in [-1, -0.1, _NAN, _INF, 10**400, Decimal("sNaN"), *_NO_NUMBERS]],
        *[("retry_max_delay", value) for value in [-1, _NAN, 10**400, *_NO_NUMBERS]],
        *[("retry_backoff", value) for value in [0, -1, _NAN, _INF, *_NO_NUMBERS]],
        *[("memory_limit", value) for value in [0, -1, 1, 2.5, _NAN, _INF, 10**400, *_NO_NUMBERS] if value is not None],
        *[("memory_limit", value) for value in ["", "GiB", "2 bottles", "512m", "-1GiB", "1e9GB", "nanGB", "infGB"]],
        *[("retry_jitter", value) for value in [-0.1, _NAN, _INF, *_NO_NUMBERS]],
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a11_r11_bad_numbers_name_task_and_option(option: str, value: Any) -> None:
    with pytest.raises(DefinitionError, match=f"task 't': {option} must be") as caught:
        once(**{option: value})
    assert caught.value.task == "t"
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("512MiB", 512 << 20), ("2GB", 2 * 10**9), ("2 GiB", 2 << 30), ("1.5gib", 3 << 29), (" 3000KB ", 3_000_000),
        ("4096kib", 4 << 20), ("0.5TB", 5 * 10**11), ("1TiB", 1 << 40), ("2000000", 2_000_000), ("2000000b", 2_000_000),
        (1 << 30, 1 << 30), (2e9, 2 * 10**9), (np.int64(1 << 21), 1 << 21), (None, None),
    ],
)  # fmt: skip
def test_memory_limits_are_bytes(value: Any, expected: int | None) -> None:
    limit = once(memory_limit=value).memory_limit
    assert (type(limit), limit) == (type(expected), expected)


def test_numbers_come_out_in_normal_form() -> None:
    task = once(
        retries=np.int64(3), priority=-5, timeout=np.float32(0.5), retry_delay=Decimal("0.25"), retry_backoff=1,
        retry_max_delay=_INF, retry_jitter=0,
    )  # fmt: skip
    assert (type(task.retries), task.retries) == (int, 3)
    assert (task.priority, task.timeout, task.retry_delay) == (-5, 0.5, 0.25)
    assert (task.retry_backoff, task.retry_max_delay, task.retry_jitter) == (1.0, _INF, 0.0)
    assert type(task.retry_delay) is type(task.timeout) is type(task.retry_backoff) is float


@pytest.mark.parametrize("rule", list(TriggerRule))
def test_rules_by_name_and_by_member(rule: TriggerRule) -> None:
    assert once(trigger_rule=rule.value).trigger_rule == once(trigger_rule=rule).trigger_rule == rule


@pytest.mark.parametrize("rule", ["ALL_DONE", "all", "", None, 1, ["all_done"]])
def test_unknown_rules(rule: Any) -> None:
    with pytest.raises(DefinitionError, match=r"task 't': unknown trigger_rule .* known are .*all_success.*always"):
        once(trigger_rule=rule)


@pytest.mark.parametrize(
    "value", [ValueError, KeyboardInterrupt, (OSError, ValueError), (), callable, lambda error: True]
)
def test_retry_on(value: Any) -> None:
    assert once(retry_on=value).retry_on is value


@pytest.mark.parametrize("value", [None, "ValueError", int, (ValueError, int), [ValueError], ValueError("x"), 1])
def test_bad_retry_on(value: Any) -> None:
    with pytest.raises(DefinitionError, match="task 't': retry_on must be"):
        once(retry_on=value)


def test_on_kill() -> None:
    assert once(on_kill=act).on_kill is act
    with pytest.raises(DefinitionError, match="task 't': on_kill must be a function"):
        once(on_kill="act")


@pytest.mark.parametrize("args", ["abc", 1, None, {1}, {"a": 1}, (i for i in ())])
def test_bad_args(args: Any) -> None:
    with pytest.raises(DefinitionError, match="task 't': args must be"):
        once(args=args)


@pytest.mark.parametrize("kwargs", ["abc", 1, [("a", 1)], {1: 2}, ()])
def test_bad_kwargs(kwargs: Any) -> None:
    with pytest.raises(DefinitionError, match="task 't': kwargs must be"):
        once(kwargs=kwargs)


def test_arguments_are_copied() -> None:
    args, kwargs = [1], {"a": 1}
    task = Task("t", act, args, kwargs)
    args.append(2)
    kwargs["b"] = 2
    assert (task.args, task.kwargs) == ((1,), {"a": 1})


def test_a_task_is_no_argument_yet() -> None:
    for given in ({"args": (once(),)}, {"kwargs": {"x": once()}}):
        with pytest.raises(DefinitionError, match=r"task 'u' got task 't' as an argument; .*set_downstream"):
            Task("u", act, **given)


@pytest.mark.parametrize("wrap", [lambda t: [t], lambda t: (1, [t]), lambda t: {"a": {"b": (t,)}}, lambda t: [[], t]])
def test_a_task_inside_an_argument_is_no_argument_yet_either(wrap: Any) -> None:
    for thing, said in ((once(), "task 't'"), (factory, "the task factory 'factory'")):
        for given in ({"args": (wrap(thing),)}, {"kwargs": {"x": wrap(thing)}}):
            with pytest.raises(DefinitionError, match=rf"task 'u' got {said} as an argument; .*set_downstream"):
                Task("u", act, **given)


def test_looking_for_tasks_in_arguments_ends_soon() -> None:
    circle: list[Any] = []
    circle.append(circle)
    huge = [[]] * 10_000_000
    started = time.process_time()
    Task("t", act, (circle, huge, {"x": huge}))
    assert time.process_time() - started < 0.5


def test_unknown_options_are_told_with_what_was_meant() -> None:
    with pytest.raises(DefinitionError, match=r"task 't': unknown option 'retry'; did you mean 'retries'\?") as caught:
        once(retry=1)
    assert isinstance(caught.value, TypeError)
    with pytest.raises(DefinitionError, match=r"unknown option 'zzz'$"):
        once(zzz=1, retries=2)


def test_unknown_rules_are_told_with_what_was_meant() -> None:
    for rule in ("al_done", "ALL_DONE"):
        with pytest.raises(DefinitionError, match=r"did you mean 'all_done'\?"):
            once(trigger_rule=rule)


def test_more_retries_than_can_be_numbered_are_refused() -> None:
    assert Task("t", int, retries=1_000_000).retries == 1_000_000
    with pytest.raises(DefinitionError, match="at most 1,000,000"):
        Task("t", int, retries=1_000_001)


# --------------------------------------------------------------------------------------------------------------- edges


def test_edges_are_drawn_from_either_end_and_chain() -> None:
    a, b, c = (Task(name, act) for name in "abc")
    assert a.set_downstream(b).set_downstream(c) is c
    assert c.set_upstream(a) is c
    assert (a.downstream, b.upstream, c.upstream) == ((b, c), (a,), (b, a))
    assert (a.upstream, c.downstream) == ((), ())


@pytest.mark.parametrize("width", [1, 15, 16, 17, 18, 400])
def test_d17_the_same_edge_twice_counts_once_in_order(width: int) -> None:
    top, below = Task("top", act), [Task(str(i), act) for i in range(width)]
    for task in [*below, *below]:
        top.set_downstream(task)
        task.set_upstream(top)
    assert top.downstream == tuple(below)
    assert all(task.upstream == (top,) for task in below)


def test_d9_a_fan_of_a_hundred_thousand_is_linear() -> None:
    top, below = Task("top", act), [Task(str(i), act) for i in range(100_000)]
    started = time.process_time()
    for task in below:
        top.set_downstream(task)
    assert time.process_time() - started < 5
    assert len(top.downstream) == 100_000


@pytest.mark.parametrize("other", [None, "b", act, ["b"], Task])
def test_edges_lead_to_tasks(other: Any) -> None:
    for draw in (once().set_downstream, once().set_upstream):
        with pytest.raises(DefinitionError, match="an edge leads from task to task"):
            draw(other)


class Run:
    def __init__(self, is_active: bool) -> None:
        self.is_active = is_active

    def state_of(self, name: str) -> TaskState:
        return TaskState.RUNNING if name == "t" else TaskState.SKIPPED


def test_d12_no_edges_while_a_run_goes_on() -> None:
    a, b = once(), Task("b", act)
    a._last_run = Run(is_active=True)
    for draw in (lambda: a.set_downstream(b), lambda: a.set_upstream(b), lambda: b.set_upstream(a)):
        with pytest.raises(DefinitionError, match="frozen while it runs"):
            draw()
    assert a.downstream == b.upstream == ()
    a._last_run = Run(is_active=False)
    assert a.set_downstream(b) is b


def test_status_is_the_latest_runs() -> None:
    task = once()
    task._last_run = Run(is_active=False)
    assert task.status == "RUNNING"


# -------------------------------------------------------------------------------------------------------------- copies


def test_a_pickled_task_is_its_definition_only() -> None:
    task = Task("t", len, ([1],), {}, 2, trigger_rule="all_done", timeout=3, retry_on=(OSError,), priority=1,
                memory_limit="1GB")  # fmt: skip
    task.set_downstream(Task("b", act))
    task._last_run = Run(is_active=False)
    for twin in (pickle.loads(pickle.dumps(task)), copy.copy(task), copy.deepcopy(task)):
        assert (twin.name, twin.action, twin.args, twin.kwargs) == ("t", len, ([1],), {})
        assert (twin.retries, twin.trigger_rule, twin.timeout) == (2, "all_done", 3.0)
        assert (twin.retry_on, twin.priority, twin.memory_limit) == ((OSError,), 1, 10**9)
        assert twin.downstream == ()
        assert twin.status == "PENDING"


def test_d8_a_long_chain_is_pickled_shown_and_dropped_without_recursion() -> None:
    tasks = [Task(str(i), len, ([],)) for i in range(100_000)]
    for up, down in itertools.pairwise(tasks):
        up.set_downstream(down)
    assert len(pickle.dumps(tasks[0])) < 1_000
    repr(tasks[0])
    tasks.clear()


def test_a_bare_task_is_small() -> None:
    assert sys.getsizeof(once()) < 250
