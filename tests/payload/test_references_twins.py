"""Functions with state in values: each task has its own copy, with the code and the globals that all share."""

from __future__ import annotations

import functools
import gc
import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest

from dremioframe.orchestration import Pipeline, Task
from dremioframe.orchestration.payload import codec, references, tokens, twins

if TYPE_CHECKING:
    from collections.abc import Callable

    RunScript = Callable[..., str]


def over_a_list() -> Any:
    rows: list[object] = []

    def add(row: object) -> list[object]:
        rows.append(row)
        return list(rows)

    return add


def over_a_number() -> Any:
    total: list[object] = []
    count = 0

    def add(row: object) -> list[object]:
        nonlocal count
        count += 1
        return [row] if count == 1 else [*total, "counted by another"]

    return add


def with_a_default() -> Any:
    def add(row: object, rows: list[object] = []) -> list[object]:
        rows.append(row)
        return list(rows)

    return add


def with_an_attribute() -> Any:
    def add(row: object) -> list[object]:
        rows = add.__dict__.setdefault("rows", [])
        rows.append(row)
        return list(rows)

    add.rows = []  # type: ignore[attr-defined]
    return add


def over_another() -> Any:
    inner = over_a_list()

    def add(row: object) -> Any:
        return inner(row)

    return add


def recursive() -> Any:
    rows: list[object] = []

    def add(row: object, again: bool = True) -> Any:
        if again:
            return add(row, again=False)
        rows.append(row)
        return list(rows)

    return add


MAKERS = [over_a_list, over_a_number, with_a_default, with_an_attribute, over_another, recursive]


@pytest.mark.parametrize("make", MAKERS)
def test_p12_a_function_with_state_is_each_tasks_own(make: Any) -> None:
    def use(function: Any, context: Any) -> object:
        got = function(context.attempt)
        if context.attempt < 2:
            raise RuntimeError
        return got

    def read(context: Any) -> object:
        return context["given"](context.task_name), context["made"](context.task_name)

    pipeline = Pipeline("p", max_workers=1)
    shared, source = make(), Task("made", make)
    pipeline.add_task(source)
    for name in "abc":
        reader = Task(f"read {name}", read)
        source.set_downstream(reader)
        pipeline.add_task(reader).add_task(Task(f"use {name}", use, args=(shared,), retries=1, retry_delay=0.0))
    run = pipeline.run(executor="process", context={"given": make()})
    run.raise_for_failure()
    for name in "abc":
        assert run[f"use {name}"] == [2]
        assert run[f"read {name}"] == ([f"read {name}"], [f"read {name}"])
    assert shared("home") == ["home"]


def test_p12_two_versions_of_a_function_are_two() -> None:
    def fit() -> Any:
        def predict(x: int) -> bool:
            return x > predict.threshold  # type: ignore[attr-defined, no-any-return]

        predict.threshold = 0  # type: ignore[attr-defined]
        return predict

    def calibrate(context: Any) -> Any:
        context["fit"].threshold = 10
        return context["fit"]

    def both(context: Any) -> object:
        return context["fit"](5), context["calibrate"](5)

    def reverse(context: Any) -> object:
        return context["calibrate"](5), context["fit"](5)

    first, second = Task("fit", fit), Task("calibrate", calibrate)
    pipeline = Pipeline("p", max_workers=1).add_task(first).add_task(second)
    first.set_downstream(second)
    for action in (both, reverse):
        reader = Task(action.__name__, action)
        pipeline.add_task(reader)
        second.set_downstream(reader)
    run = pipeline.run(executor="process")
    assert (run["both"], run["reverse"]) == ((True, False), (False, True))
    assert (run["calibrate"](5), run["fit"](5)) == (False, True)


def test_the_code_goes_once_and_works_on_the_scripts_globals(run_script: RunScript) -> None:
    run_script("""
        count = 0
        table = bytes(100_000)

        def make():
            rows = []
            def add(row):
                global count
                count += len(table) > 0
                rows.append(row)
                return rows, count
            return add

        def read():
            return count

        add = make()
        with Worker() as worker:
            assert len(codec.encode(add).to_bytes()) < 500
            for n in (1, 2, 3):
                assert worker(lambda f: f("x"), add) == (["x"], n)
            assert len(worker.fetched) == 1
            assert worker(read) == 3 and count == 0
            raw = worker.raw(lambda f: (f("x"), f)[1], codec.encode(add).to_bytes())
            back = codec.decode(raw, private=False)
            assert back("y") == (["x", "y"], 1) and count == 1      # the owner's code, the value's own list
            assert add("z") == (["z"], 2)
            assert worker(lambda f: f("w")[0], back) == ["x", "y", "w"]
            worker.begin_run()
            assert worker(lambda f: f("x"), add)[0] == ["z", "x"]
            assert len(worker.fetched) == 3
    """)


def test_a_sentinel_among_the_defaults_stays_the_global(run_script: RunScript) -> None:
    run_script("""
        class Missing:
            pass

        MISSING, NOTHING = Missing(), object()

        def look(a=MISSING, b=NOTHING, c=(1, "x"), *, d=MISSING):
            return a is d is MISSING and b is NOTHING

        with Worker() as worker:
            assert worker(lambda f: f(), look)
            assert worker(lambda: look) is look
    """)


def test_singledispatch_and_wrappers_as_values(run_script: RunScript) -> None:
    run_script("""
        import functools, contextlib

        @functools.singledispatch
        def kind(x):
            return "object"

        @kind.register
        def _(x: int):
            return "int"

        def counted(function):
            @functools.wraps(function)
            def wrapper(*args):
                wrapper.calls += 1
                return function(*args), wrapper.calls
            wrapper.calls = 0
            return wrapper

        @counted
        def double(x):
            return 2 * x

        @contextlib.contextmanager
        def five():
            yield 5

        def use(kind, double, five):
            with five() as number:
                return kind(1), kind("x"), double(2), number

        with Worker() as worker:
            for _ in range(2):
                got = worker(use, kind, double, five)
                assert got == ("int", "object", (4, 1), 5), got
                assert worker(lambda f: f, double)(3)[0] == 6
                worker.begin_run()
            assert double.calls == 0
    """)


def stateless() -> list[Any]:
    def plain(x: object, y: object = 1) -> object:
        return x, y

    def over_code() -> object:
        return plain, os, len, Pipeline

    def itself() -> Any:
        return itself

    @functools.wraps(plain)
    def wrapper() -> object:
        return plain(1)

    return [plain, over_code, itself, wrapper]


def stateful() -> list[Any]:
    iterator = itertools.count()
    unset: int

    class Slotted:
        __slots__ = ("x",)

    def by_default(x: object = Slotted()) -> object:
        return x

    def over_nothing_yet() -> object:
        return unset  # noqa: F821

    def over_an_iterator() -> object:
        return next(iterator)

    def over_a_method() -> object:
        return append

    append = [].append  # type: ignore[var-annotated]
    return [by_default, over_nothing_yet, over_an_iterator, over_a_method, *[make() for make in MAKERS]]


@pytest.mark.parametrize("function", stateless())
def test_what_holds_only_code_is_one_object(function: Any) -> None:
    assert not twins.has_state(function)
    assert codec.decode(codec.encode(function).to_bytes(), private=False) is function


@pytest.mark.parametrize("function", stateful())
def test_what_can_be_changed_is_state(function: Any) -> None:
    assert twins.has_state(function)


def test_nothing_stays_of_twins_that_are_gone() -> None:
    before = len(twins._tokens), len(tokens._token_of), len(tokens._object_of)
    function = over_a_list()
    pins: dict[bytes, Any] = {}
    copy = codec.decode(codec.encode(function, pins).to_bytes(), private=False)
    assert copy is not function
    assert copy(1) == [1]
    assert function(2) == [2]
    assert list(pins.values()) == [function]
    assert references.blob_for_token(twins.bare(next(iter(pins))))
    pins.clear()
    del function, copy
    gc.collect()
    assert (len(twins._tokens), len(tokens._token_of), len(tokens._object_of)) <= before
