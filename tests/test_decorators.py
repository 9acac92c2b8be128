"""``@task``: bare, with options, copies with other options, and where a factory must not be called."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from dremioframe.orchestration import DefinitionError, NestedRunError, Task, task
from dremioframe.orchestration.context import running_task
from dremioframe.orchestration.decorators import TaskFactory

if TYPE_CHECKING:
    from pathlib import Path


def plain(a: int, b: int = 2) -> int:
    """Adds."""
    return a + b


@task
def bare(a: int, b: int = 2) -> int:
    """Adds."""
    return a + b


@task(name="other", retries=3, timeout=30)
def optioned(context: Any = None) -> Any:
    return context


def test_calling_makes_a_new_task_and_runs_nothing() -> None:
    one, two = bare(1), bare(1, b=3)
    assert type(one) is Task
    assert one is not two
    assert (one.name, one.action, one.args, one.kwargs) == ("bare", bare.fn, (1,), {})
    assert (two.args, two.kwargs) == ((1,), {"b": 3})
    assert (one.run(), two.run()) == (3, 4)


def test_options_reach_the_task() -> None:
    made = optioned()
    assert (made.name, made.retries, made.timeout, made.takes_context) == ("other", 3, 30.0, True)
    assert bare(1).retries == 0


def test_empty_parentheses_and_an_empty_name() -> None:
    assert task()(plain)(1).name == "plain"
    assert task(name="")(plain)(1).name == ""


def test_fn_is_the_plain_function() -> None:
    assert bare.fn(1) == 3
    assert optioned.fn("x") == "x"


def test_it_looks_like_the_function() -> None:
    assert bare.__wrapped__ is bare.fn
    assert (bare.__name__, bare.__qualname__, bare.__doc__, bare.__module__) == ("bare", "bare", "Adds.", __name__)
    assert list(inspect.signature(bare).parameters) == ["a", "b"]
    assert repr(optioned) == "<task factory 'other'>"


def test_with_options_is_a_copy() -> None:
    renamed = optioned.with_options(name="third", retries=1)
    assert (renamed().name, renamed().retries, renamed().timeout) == ("third", 1, 30.0)
    assert (optioned().name, optioned().retries) == ("other", 3)
    assert optioned.with_options(priority=1)().name == "other"
    assert bare.with_options(priority=1)(1).name == "bare"
    assert renamed.fn is optioned.fn


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"retries": -1}, "task 'plain': retries must be"),
        ({"timeout": 0}, "task 'plain': timeout must be"),
        ({"trigger_rule": "never"}, "task 'plain': unknown trigger_rule"),
        ({"name": 1}, "name must be a string"),
    ],
)
def test_bad_options_are_told_at_the_declaration(options: Any, reason: str) -> None:
    with pytest.raises(DefinitionError, match=reason):
        task(**options)(plain)
    with pytest.raises(DefinitionError, match=reason):
        task(plain).with_options(**options)


@pytest.mark.parametrize("name", ["cpus", "resources", "executor", "action", "args", "kwargs", "retry"])
def test_options_that_do_not_exist(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        task(**{name: 1})(plain)
    with pytest.raises(TypeError, match=name):
        task(plain).with_options(**{name: 1})


def test_what_cannot_be_a_task_is_told_at_the_declaration() -> None:
    async def coroutine() -> None: ...

    def generator() -> Any:
        yield 1

    with pytest.raises(DefinitionError, match="task 'coroutine': the action is an async function"):
        task(coroutine)
    with pytest.raises(DefinitionError, match="task 'generator': the action is a generator function"):
        task(retries=1)(generator)
    for thing in ("extract", 3):
        with pytest.raises(DefinitionError, match="action must be callable"):
            task(thing)  # type: ignore[call-overload]


def test_other_callables() -> None:
    class Adder:
        def __call__(self, a: int) -> int:
            return a + 1

        def method(self) -> int:
            return 5

    assert task(Adder())(1).name == "Adder"
    assert task(Adder())(1).run() == 2
    assert task(Adder().method)().name == "method"
    assert task(functools.partial(plain, 1))().name == "plain"
    assert task(functools.partial(plain, 1))(b=5).run() == 6
    assert task(len)([1]).run() == 1


def test_a_decorated_method_is_left_alone() -> None:
    class Jobs:
        @staticmethod
        @task
        def job() -> int:
            return 1

    assert Jobs.job().run() == 1


def test_a_task_as_argument_is_refused() -> None:
    with pytest.raises(DefinitionError, match="task 'bare' got task 'other' as an argument"):
        bare(optioned())  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [((optioned, 2), {}), (([optioned()], 2), {}), ((1,), {"b": {"x": optioned}})])
def test_a_factory_or_a_task_inside_an_argument_is_refused(given: Any) -> None:
    args, kwargs = given
    with pytest.raises(DefinitionError, match=r"task 'bare' got (task|the task factory) '\w+' as an argument; "):
        bare(*args, **kwargs)


def two(a: int, b: int) -> int:
    return a + b


def three(a: int, /, b: int, *, c: int, context: Any) -> Any:
    return a, b, c, context


def open_ended(a: int, *rest: int, **named: int) -> Any:
    return a, rest, named


class Named:
    def method(self, a: int, context: Any) -> Any:
        return a

    def __call__(self, a: int) -> int:
        return a


def wrapped_away(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper() -> Any:
        return function(1, 2)

    return wrapper


@pytest.mark.parametrize(
    ("fn", "args", "kwargs"),
    [
        (two, (1, 2), {}), (two, (1,), {"b": 2}), (two, (), {"a": 1, "b": 2}),
        (three, (1, 2), {"c": 3}), (three, (1,), {"b": 2, "c": 3}), (three, (1, 2), {"c": 3, "context": 4}),
        (open_ended, (1, 2, 3), {"x": 4}), (open_ended, (), {"a": 1}),
        (Named().method, (1,), {}), (Named(), (1,), {}), (functools.partial(two, 1), (2,), {}),
        (functools.partial(two, b=1), (2,), {}), (functools.partial(two, 1, b=1), (), {"b": 2}),
        (wrapped_away(two), (), {}), (len, ([],), {}), (plain, (1,), {}),
    ],
)  # fmt: skip
def test_calls_that_fit(fn: Any, args: Any, kwargs: Any) -> None:
    assert task(fn)(*args, **kwargs).args == args


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "reason"),
    [
        (two, (1,), {}, "missing a required argument: 'b'"), (two, (), {}, "missing a required argument: 'a'"),
        (two, (1, 2, 3), {}, "too many positional"), (two, (1, 2), {"b": 3}, "multiple values for argument 'b'"),
        (two, (1, 2), {"z": 3}, "unexpected keyword argument 'z'"), (two, (1, 2), {"context": 3}, "context"),
        (three, (1, 2), {}, "'c'"), (three, (), {"a": 1, "b": 2, "c": 3}, "'a'"), (open_ended, (), {}, "'a'"),
        (Named().method, (), {}, "'a'"), (Named(), (1, 2), {}, "too many"), (functools.partial(two, 1), (), {}, "'b'"),
        (functools.partial(two, 1), (2, 3), {}, "too many"), (wrapped_away(two), (1, 2), {}, "too many"),
        (lambda context, /: 1, (), {}, "context"),
    ],
)  # fmt: skip
def test_calls_that_do_not_fit_are_told_when_declared(fn: Any, args: Any, kwargs: Any, reason: str) -> None:
    with pytest.raises(
        DefinitionError, match=rf"task '.*': .*cannot be called like this: .*{reason}.*; its parameters"
    ):
        task(fn)(*args, **kwargs)


@pytest.mark.parametrize("use", [
    lambda f: f.set_downstream(bare(1)), lambda f: f.set_upstream(bare(1)), lambda f: f.run(), lambda f: f.upstream,
    lambda f: f >> bare(1), lambda f: bare(1) >> f, lambda f: f << bare(1), lambda f: f >> f,
])  # fmt: skip
def test_a_factory_used_as_a_task_says_to_call_it(use: Any) -> None:
    with pytest.raises(AttributeError, match=r"`optioned` is a task factory; call it: optioned\(\)"):
        use(optioned)


def test_other_attributes_of_a_factory_are_simply_missing() -> None:
    assert not hasattr(bare, "nonsense")
    with pytest.raises(AttributeError, match="'TaskFactory' object has no attribute '_upstream'"):
        bare._upstream  # type: ignore[attr-defined]


def test_unknown_options_are_told_at_once_with_what_was_meant() -> None:
    wrong: Any = {"retry": 3}
    for declare in (lambda: task(**wrong), lambda: bare.with_options(**wrong)):
        with pytest.raises(DefinitionError, match=r"@task: unknown option 'retry'; did you mean 'retries'\?") as caught:
            declare()
        assert isinstance(caught.value, TypeError)


def test_a_good_call_needs_neither_inspect_nor_difflib() -> None:
    script = """
import sys
from dremioframe.orchestration import task
@task(retries=1)
def two(a, b=1, *, context=None): pass
two(1), two(1, b=2), two(a=1)
assert not {"inspect", "difflib"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_calling_a_factory_in_a_running_task_points_to_fn() -> None:
    @task
    def outer() -> Any:
        return bare(1)

    with pytest.raises(
        NestedRunError, match=r"task 'outer' called the task factory 'bare' .* bare\.fn\(\.\.\.\)"
    ) as caught:
        outer().run()
    assert caught.value.task == "outer"
    assert running_task.get() is None
    assert task(lambda: bare.fn(1))().run() == 3


def test_a_factory_is_copied_and_pickled_by_its_definition() -> None:
    factory = TaskFactory(len, {"retries": 2, "name": "size"})
    for twin in (pickle.loads(pickle.dumps(factory)), copy.copy(factory), copy.deepcopy(factory)):
        assert type(twin) is TaskFactory
        made = twin([1])
        assert (made.name, made.retries, made.run()) == ("size", 2, 1)
    unnamed = pickle.loads(pickle.dumps(TaskFactory(len, {})))
    assert unnamed([1]).name == "len"


@pytest.mark.watchdog(300)
def test_type_checkers_know_parameters_and_options(tmp_path: Path) -> None:
    script = tmp_path / "typed.py"
    script.write_text(
        textwrap.dedent(
            """
            from dremioframe.orchestration import Task, task

            @task
            def bare(a: int, b: str = "") -> int:
                return a

            @task(retries=3, retry_on=(OSError, ValueError))
            def optioned(x: float) -> list[float]:
                return [x]

            good: Task = bare(1, b="x")
            value: int = bare.fn(1)
            also: Task = optioned.with_options(name="y")(1.0)
            bare("no")            # error: [arg-type]
            optioned(1.0, 2)      # error: [call-arg]
            task(retires=3)       # error: [call-overload]
            optioned.with_options(timeout="x")  # error: [arg-type]
            """
        )
    )
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--cache-dir",
        str(tmp_path),
        str(script),
    ]
    said = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).stdout
    lines = script.read_text().splitlines()
    expected = {(i, line.split("error: ")[1]) for i, line in enumerate(lines, 1) if "# error" in line}
    found = {(int(line.split(":")[1]), line.split()[-1]) for line in said.splitlines() if ": error:" in line}
    assert found == expected, said
