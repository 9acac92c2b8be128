"""What a failed attempt keeps alive: frames of what has ended are let go of, generators of the user's go on."""

from __future__ import annotations

import asyncio
import types
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from dremioframe.orchestration import Pipeline, Task
from dremioframe.orchestration.payload.failure import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator


class Big:
    pass


def session() -> Generator[Any, str, None]:
    """A connection, say: it tells of an error and waits for the next command."""
    answer: Any = "ready"
    while True:
        try:
            command = yield answer
            if command == "fail":
                raise ValueError("first time")
            answer = command
        except ValueError as caught:
            answer = caught


def delegating() -> Generator[Any, str, None]:
    yield from session()


async def coroutine() -> None:
    answer: Any = "ready"
    while True:
        try:
            command = await stops(answer)
            if command == "fail":
                raise ValueError("first time")
            answer = command
        except ValueError as caught:
            answer = caught


@types.coroutine
def stops(answer: Any) -> Generator[Any, str, str]:
    return (yield answer)


@pytest.mark.parametrize("make", [session, delegating, coroutine])
@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_a_retry_leaves_generators_alone_that_the_error_has_passed_through(
    executor: str, make: Callable[[], Generator[Any, Any, None]]
) -> None:
    held = make()
    held.send(None)

    def query(context: Any) -> object:
        answer = held.send("fail" if context.attempt == 1 else "go")
        if isinstance(answer, Exception):
            raise answer
        return answer

    run = Pipeline("p").add_task(Task("query", query, retries=1, retry_delay=0.0)).run(executor=executor)
    assert run["query"] == "go"
    assert held.send("and on") == "and on"
    held.close()


def test_async_generators_are_left_alone_too() -> None:
    async def ticks() -> AsyncIterator[object]:
        answer: object = "ready"
        while True:
            try:
                yield answer
                raise ValueError("first time")
            except ValueError as caught:
                answer = caught

    async def main() -> None:
        held = ticks()
        await anext(held)
        error = await anext(held)
        assert isinstance(error, ValueError)
        Failure.local(error).drop_frames()
        await asyncio.sleep(0.01)  # the loop would close it in a task of its own
        assert isinstance(await anext(held), ValueError)

    asyncio.run(main())


def fails_plainly(seen: list[Any]) -> None:
    big = Big()
    seen.append(weakref.ref(big))
    raise ValueError("x")


def fails_in_a_generator(seen: list[Any]) -> None:
    def rows() -> Generator[int, None, None]:
        big = Big()
        seen.append(weakref.ref(big))
        yield 1
        raise ValueError("x")

    list(rows())


def fails_in_a_coroutine(seen: list[Any]) -> None:
    async def work() -> None:
        big = Big()
        seen.append(weakref.ref(big))
        await asyncio.sleep(0)
        raise ValueError("x")

    asyncio.run(work())


@pytest.mark.parametrize("action", [fails_plainly, fails_in_a_generator, fails_in_a_coroutine])
def test_what_an_attempt_held_that_was_retried_is_let_go_of(action: Any) -> None:
    seen: list[Any] = []
    task = Task("t", action, (seen,), retries=1, retry_delay=0.0)
    run = Pipeline("p").add_task(task).run(executor="inline")
    assert [ref() is None for ref in seen] == [True, False]
    assert "x" in str(run.failures["t"])
