"""What may be the action of a task, and which actions take a context."""

from __future__ import annotations

import functools
import operator
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from dremioframe.orchestration import DefinitionError, Task
from dremioframe.orchestration.decorators import task as decorate

if TYPE_CHECKING:
    from collections.abc import Callable


def act() -> int:
    return 1


# ------------------------------------------------------------------------------------------------------------- actions


@decorate
def factory() -> int:
    return 1


@pytest.mark.parametrize("action", [factory, functools.partial(factory)])
def test_a_factory_is_no_action(action: Any) -> None:
    with pytest.raises(DefinitionError, match=r"task 't': the action is the task factory 'factory'; .*factory\.fn"):
        Task("t", action)


def test_an_edge_to_a_factory_says_to_call_it() -> None:
    with pytest.raises(DefinitionError, match=r"an edge leads from task to task.*call it: factory\(\)"):
        Task("t", act).set_downstream(factory)  # type: ignore[arg-type]


async def coroutine() -> None: ...


def generator() -> Any:
    yield 1


async def async_generator() -> Any:
    yield 1


class Methods:
    async def coroutine(self) -> None: ...

    def generator(self) -> Any:
        yield 1

    @classmethod
    async def of_class(cls) -> None: ...

    @staticmethod
    async def of_none() -> None: ...


class AsyncCallable:
    async def __call__(self) -> None: ...


class GeneratorCallable:
    def __call__(self) -> Any:
        yield 1


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (coroutine, "async function"),
        (generator, "generator function"),
        (async_generator, "generator function"),
        (functools.partial(coroutine), "async function"),
        (functools.partial(functools.partial(generator)), "generator function"),
        (Methods().coroutine, "async function"),
        (Methods().generator, "generator function"),
        (Methods.of_class, "async function"),
        (Methods.of_none, "async function"),
        (AsyncCallable(), "async function"),
        (GeneratorCallable(), "generator function"),
        (functools.partial(AsyncCallable()), "async function"),
    ],
)
def test_u34_async_and_generator_functions_are_refused(action: Any, reason: str) -> None:
    with pytest.raises(DefinitionError, match=f"task 't': the action is an? {reason}"):
        Task("t", action)


@pytest.mark.parametrize("action", [None, 1, "act", object()])
def test_what_cannot_be_called_is_refused(action: Any) -> None:
    with pytest.raises(DefinitionError, match="task 't': action must be callable"):
        Task("t", action)


@pytest.mark.parametrize("action", [len, print, int, Methods, "x".upper, operator.itemgetter(0), np.sum, dict])
def test_everything_else_that_can_be_called_is_an_action(action: Any) -> None:
    assert Task("t", action).action is action


# ------------------------------------------------------------------------------------------------------- takes context


class Taker:
    def method(self, context: Any = None) -> Any:
        return context

    @classmethod
    def of_class(cls, context: Any) -> Any:
        return context

    @staticmethod
    def of_none(*, context: Any) -> Any:
        return context

    def __call__(self, a: int = 1, context: Any = None) -> Any:
        return context


class Made:
    def __init__(self, context: Any = None) -> None:
        self.context = context


class Stated:
    """A signature of its own, as C extensions and some decorators have it."""

    def __init__(self, signature: Any) -> None:
        self.__signature__ = signature

    __call__ = len


def loud(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def deaf(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper() -> Any:
        return function(None)

    return wrapper


def takes(context: Any = None) -> Any:
    return context


def takes_last(a: int = 1, b: int = 2, context: Any = None) -> Any:
    return context


@pytest.mark.parametrize(
    ("expected", "action", "options"),
    [
        (True, takes, {}),
        (True, lambda context: context, {}),
        (True, lambda *, context: context, {}),
        (True, lambda *args, context=None: context, {"args": (1, 2, 3)}),
        (True, takes_last, {"args": (1, 2)}),
        (False, takes_last, {"args": (1, 2, 3)}),
        (False, takes, {"args": (1,)}),
        (False, takes, {"kwargs": {"context": 1}}),
        (True, takes_last, {"kwargs": {"a": 1}}),
        (False, lambda **kwargs: kwargs, {}),
        (False, lambda *args: args, {}),
        (False, lambda *context: context, {}),
        (False, lambda **context: context, {}),
        (False, lambda context, /: context, {"args": (1,)}),
        (False, lambda context=None, /: context, {}),
        (False, lambda a, context=None, /, b=1: context, {"args": (1,)}),
        (False, lambda: lambda context: context, {}),
        (False, act, {}),
        (True, functools.partial(takes), {}),
        (True, functools.partial(takes_last, 1, 2), {}),
        (False, functools.partial(takes_last, 1, 2, 3), {}),
        (False, functools.partial(takes_last, 1), {"args": (2, 3)}),
        (False, functools.partial(takes, context=1), {}),
        (False, functools.partial(functools.partial(takes, context=1)), {}),
        (True, functools.partial(takes_last, b=1), {}),
        (True, Taker().method, {}),
        (False, Taker().method, {"args": (1,)}),
        (True, Taker.of_class, {}),
        (True, Taker.of_none, {}),
        (True, Taker(), {}),
        (True, Taker(), {"args": (1,)}),
        (False, Taker(), {"args": (1, 2)}),
        (True, functools.partial(Taker(), 1), {}),
        (False, functools.partial(Taker(), 1, 2), {}),
        (True, Made, {}),
        (False, Made, {"args": (1,)}),
        (True, loud(takes), {}),
        (True, loud(loud(takes)), {}),
        (False, loud(takes), {"args": (1,)}),
        (False, loud(act), {}),
        (False, deaf(takes), {}),
        (False, functools.lru_cache(act), {}),
        (False, len, {"args": ([],)}),
        (False, print, {}),
        (False, dict, {}),
        (False, "x".upper, {}),
        (False, operator.itemgetter(0), {"args": ([1],)}),
        (False, np.sum, {"args": ([1],)}),
    ],
)
def test_takes_context(expected: bool, action: Any, options: dict[str, Any]) -> None:
    task = Task("t", action, **options)
    assert task.takes_context is expected
    if action is not Made:  # and a call in that way works
        task.run(context={})


def test_a_circle_of_wrapped_functions_ends() -> None:
    def around(**kwargs: Any) -> None: ...

    around.__wrapped__ = around  # type: ignore[attr-defined]
    assert not Task("t", around).takes_context


def test_inspect_is_not_needed_for_ordinary_actions() -> None:
    script = """
import sys, functools
from dremioframe.orchestration import Task
class C:
    def m(self, context=None): pass
    def __call__(self, context=None): pass
def wrapped(**kwargs): pass
wrapped.__wrapped__ = C().m
for action in (lambda context: 1, C().m, C(), functools.partial(C().m), wrapped):
    assert Task("t", action).takes_context
assert "inspect" not in sys.modules
"""
    import subprocess

    subprocess.run([sys.executable, "-c", script], check=True)
