"""One task run alone, in the caller's thread: what ``Task.run`` does.

What lives here: attempts one after another, with the task's own delays between them. What may not: edges, trigger
rules, workers. It differs from a run of a pipeline on purpose in one point: errors come out as they were raised.
"""

from __future__ import annotations

from .context import Context, running_task
from .errors import FailTask, RetryTask, SkipTask, TaskCancelled, TaskTimeoutError
from .retry_on import wants_retry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .task import Task


def run_alone(task: Task, values: Mapping[str, object]) -> Any:
    """Run ``task`` with its retries and their delays; ``values`` is what it finds in its context.

    Raises:
        BaseException: What the last attempt raised.
    """
    from time import sleep

    attempt = 1
    while True:
        try:
            return _attempt(task, values, attempt)
        except (SkipTask, FailTask, TaskCancelled, KeyboardInterrupt):
            raise
        except BaseException as error:
            if attempt > task.retries or not _wants_retry(task, error):
                raise
            delay_s = _delay_s(task, attempt, error)
        sleep(delay_s)
        attempt += 1


def _attempt(task: Task, values: Mapping[str, object], attempt: int) -> Any:
    from time import monotonic

    token = running_task.set(task.name)
    started_s = monotonic()
    try:
        if task.takes_context:
            context = Context.local(values, task_name=task.name, attempt=attempt)
            result = task.action(*task.args, **task.kwargs, context=context)
        else:
            result = task.action(*task.args, **task.kwargs)
    finally:
        running_task.reset(token)
    wall_s = monotonic() - started_s
    if task.timeout is not None and wall_s > task.timeout:
        raise TaskTimeoutError(
            f"task {task.name!r}, attempt {attempt}, took {wall_s:.3g} s; its timeout is {task.timeout:g} s. Run "
            "alone, a task is not interrupted, but it fails all the same",
            task=task.name,
            attempt=attempt,
            timeout_s=task.timeout,
        )
    return result


def _wants_retry(task: Task, error: BaseException) -> bool:
    if isinstance(error, RetryTask):
        return True
    wanted, note = wants_retry(task.retry_on, error)
    if note:
        error.add_note(note)
    return wanted


def _delay_s(task: Task, attempt: int, error: BaseException) -> float:
    from random import random

    from .dag.retry_policy import RetryPolicy, clamp_delay_s

    if isinstance(error, RetryTask) and error.delay is not None:
        return clamp_delay_s(error.delay)
    policy = RetryPolicy(task.retries, task.retry_delay, task.retry_backoff, task.retry_max_delay, task.retry_jitter)
    return policy.delay_s_before(attempt, random())
