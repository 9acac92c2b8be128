"""One task run alone: its retries, its errors, its time."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dremioframe.orchestration import (
    FailTask,
    NestedRunError,
    OrchestrationError,
    PayloadError,
    RetryTask,
    SkipTask,
    Task,
    TaskTimeoutError,
)
from dremioframe.orchestration.context import running_task


class Flaky:
    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0
        self.attempts: list[int] = []

    def __call__(self, context: Any) -> str:
        self.calls += 1
        self.attempts.append(context.attempt)
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def alone(*errors: BaseException, **options: Any) -> tuple[Task, Flaky]:
    action = Flaky(*errors)
    return Task("t", action, retry_delay=0, **options), action


def test_run_alone_returns_the_value() -> None:
    assert Task("t", max, (1, 2)).run() == 2
    assert Task("t", sorted, ([1, 2],), {"reverse": True}).run() == [2, 1]


def test_run_alone_passes_the_context() -> None:
    def action(context: Any) -> Any:
        return context["x"], context.task_name, context.attempt, running_task.get()

    assert Task("t", action).run(context={"x": 1}) == (1, "t", 1, "t")
    assert running_task.get() is None
    with pytest.raises(KeyError, match="x"):
        Task("t", action).run()


def test_run_alone_retries_and_then_raises_the_original() -> None:
    first, second = ValueError("1"), ValueError("2")
    task, action = alone(first, second, retries=2)
    assert task.run() == "done"
    assert action.attempts == [1, 2, 3]
    task, action = alone(first, second, retries=1)
    with pytest.raises(ValueError, match="2") as caught:
        task.run()
    assert caught.value is second
    assert caught.value.__context__ is None  # the first attempt's error did not cause it


@pytest.mark.parametrize("error", [SkipTask("no"), FailTask("no"), KeyboardInterrupt()])
def test_run_alone_lets_these_out_at_once(error: BaseException) -> None:
    task, action = alone(error, retries=5, retry_on=BaseException)
    with pytest.raises(type(error)):
        task.run()
    assert action.calls == 1


def test_run_alone_counts_what_retry_task_asks_for() -> None:
    task, action = alone(RetryTask(), RetryTask(0.0), retries=2, retry_on=())
    assert task.run() == "done"
    task, action = alone(RetryTask(), RetryTask(), retries=1)
    with pytest.raises(RetryTask):
        task.run()
    assert action.calls == 2


@pytest.mark.parametrize(
    ("retry_on", "calls"),
    [
        (ValueError, 2),
        ((OSError, ValueError), 2),
        (OSError, 1),
        (lambda error: error.args == ("x",), 2),
        (lambda error: False, 1),
    ],
)
def test_run_alone_asks_retry_on(retry_on: Any, calls: int) -> None:
    task, action = alone(ValueError("x"), ValueError("y"), retries=1, retry_on=retry_on)
    with pytest.raises(ValueError):
        task.run()
    assert action.calls == calls


def test_run_alone_takes_a_predicate_that_raises_for_a_no() -> None:
    task, action = alone(ValueError("x"), retries=3, retry_on=lambda error: 1 / 0)
    with pytest.raises(ValueError) as caught:
        task.run()
    assert action.calls == 1
    assert "retry_on itself raised ZeroDivisionError" in caught.value.__notes__[0]


def test_run_alone_never_retries_what_a_run_would_not_retry() -> None:
    calls: list[int] = []

    def returns_a_task() -> Any:
        calls.append(1)
        return Task("t", int)

    with pytest.raises(NestedRunError, match=r"returned the Task 't'; .*t\.fn\(\.\.\.\)"):
        Task("u", returns_a_task, retries=3, retry_delay=0).run()
    assert calls == [1]
    for error in (NestedRunError("x"), PayloadError("x")):
        alone_task, action = alone(error, retries=3)
        with pytest.raises(type(error)) as caught:
            alone_task.run()
        assert caught.value is error
        assert action.calls == 1


def test_run_alone_waits_between_attempts() -> None:
    task = Task("t", Flaky(ValueError(), ValueError()), retries=2, retry_delay=0.05, retry_jitter=0)
    started = time.monotonic()
    task.run()
    assert time.monotonic() - started >= 0.05 + 0.10


def test_run_alone_fails_an_attempt_over_its_time() -> None:
    spent = iter([True, False])

    def slow_once() -> str:
        until = time.monotonic() + (0.02 if next(spent) else 0)
        while time.monotonic() < until:
            pass
        return "done"

    assert Task("t", slow_once, timeout=0.01, retries=1, retry_delay=0).run() == "done"
    spent = iter([True])
    with pytest.raises(TaskTimeoutError, match=r"task 't', attempt 1, took .* its timeout is 0.01 s") as caught:
        Task("t", slow_once, timeout=0.01).run()
    assert isinstance(caught.value, OrchestrationError)
    assert caught.value.timeout_s == 0.01
