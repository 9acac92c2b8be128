"""One task run alone, in the caller's thread: what ``Task.run`` does.

What lives here: attempts one after another, with the task's own delays between them. What may not: edges, trigger
rules, workers, and what an error means (``user_code``). It differs from a run of a pipeline on purpose in two points:
errors come out as they were raised, and Ctrl-C is never retried.
"""

from __future__ import annotations

from .context import Context
from .errors import TaskTimeoutError
from .payload.guard import must_pass
from .user_code import Ended, Job, judge, run_user_code

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

    job = Job(task.action, task.retry_on, task.on_kill, task.takes_context)
    attempt = 1
    while True:
        ended = _attempt(task, job, values, attempt)
        if ended.error is None:
            return ended.value
        if attempt > task.retries or not ended.retryable or issubclass(type(ended.error), KeyboardInterrupt):
            break
        delay_s = _delay_s(task, attempt, ended.retry_delay_s)
        del ended  # its frames may hold much, and another attempt follows
        sleep(delay_s)
        attempt += 1
    if ended.note:
        _add_note(ended.error, ended.note)
    try:
        raise ended.error
    finally:
        del ended  # or the error would hold itself, through this frame


def _add_note(error: BaseException, note: str) -> None:
    try:
        error.add_note(note)
    except BaseException as own:  # a class that takes no notes: its instance is to come out all the same
        if must_pass(own):
            raise


def _attempt(task: Task, job: Job, values: Mapping[str, object], attempt: int) -> Ended:
    from time import monotonic

    context = Context.local(values, task_name=task.name, attempt=attempt) if job.takes_context else None
    started_s = monotonic()
    ended = run_user_code(job, task.name, task.args, task.kwargs, context)
    wall_s = monotonic() - started_s
    if ended.error is not None or task.timeout is None or wall_s <= task.timeout:
        return ended
    late = TaskTimeoutError(
        f"task {task.name!r}, attempt {attempt}, took {wall_s:.3g} s; its timeout is {task.timeout:g} s. Run alone, a "
        "task is not interrupted, but it fails all the same",
        task=task.name,
        attempt=attempt,
        timeout_s=task.timeout,
    )
    return judge(late, task.retry_on)


def _delay_s(task: Task, attempt: int, asked_for_s: float | None) -> float:
    from random import random

    from .dag.retry_policy import RetryPolicy, clamp_delay_s

    if asked_for_s is not None:
        return clamp_delay_s(asked_for_s)
    policy = RetryPolicy(task.retries, task.retry_delay, task.retry_backoff, task.retry_max_delay, task.retry_jitter)
    return policy.delay_s_before(attempt, random())
