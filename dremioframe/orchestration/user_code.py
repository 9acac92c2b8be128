"""What runs around user code, once for all executors and for a task run alone: call it, judge how it ended.

What lives here: the call itself, the meaning of what it raises, and whether ``retry_on`` wants another attempt. What
may not: retry counts, delays, time-outs (the business of whoever makes attempts) and what becomes of a value.
"""

from __future__ import annotations

from . import failpoints
from .context import running_task
from .errors import FailTask, NestedRunError, PayloadError, RetryTask, SkipTask, TaskCancelled, checked_delay
from .interfaces import OutcomeStatus
from .retry_on import wants_retry
from .signature import TaskLike

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NamedTuple

    from .context import Context
    from .interfaces import RetryOn
else:
    from .light_typing import NamedTuple


class Job(NamedTuple):
    """The code of one task: what all its attempts share.

    Attributes:
        action: The user's callable.
        retry_on: Which exceptions deserve another attempt.
        on_kill: Called in the worker when the attempt is stopped, or None.
        takes_context: Whether ``action`` gets a ``context``.
    """

    action: Callable[..., Any]
    retry_on: RetryOn
    on_kill: Callable[[], object] | None
    takes_context: bool


class Ended(NamedTuple):
    """How the user's code ended.

    Attributes:
        status: One of :class:`~.interfaces.OutcomeStatus`.
        value: What it returned, if it succeeded.
        error: What it raised, if it did not.
        retryable: Whether ``retry_on`` wants another attempt.
        retry_delay_s: The delay asked for by ``RetryTask``.
        note: Something the user should know besides, e.g. that ``retry_on`` itself failed.
    """

    status: int
    value: object = None
    error: BaseException | None = None
    retryable: bool = False
    retry_delay_s: float | None = None
    note: str = ""


def run_user_code(
    job: Job, task_name: str, args: tuple[object, ...], kwargs: Mapping[str, object], context: Context | None
) -> Ended:
    """Call the action and judge how it ended. Nothing the user's code raises gets out of here."""
    token = running_task.set(task_name)
    try:
        value = job.action(*args, **kwargs) if context is None else job.action(*args, context=context, **kwargs)
        if issubclass(type(value), TaskLike):  # isinstance would run a __class__ of the value's own
            raise NestedRunError(
                f"task {task_name!r} returned the Task {value.name!r}; to use another task's code inside a task, "
                f"call its plain function: {value.name}.fn(...)",
                task=task_name,
            )
    except BaseException as error:
        if failpoints.armed and not issubclass(type(error), Exception) and failpoints.hit("user_code.base_exceptions"):
            raise
        return judge(error, job.retry_on)
    finally:
        running_task.reset(token)
    return Ended(OutcomeStatus.SUCCESS, value)


def judge(error: BaseException, retry_on: RetryOn) -> Ended:
    """What an exception out of task code means."""
    kind = type(error)  # as `except` sees it: a __class__ of the user's is not asked
    if issubclass(kind, SkipTask):
        return Ended(OutcomeStatus.SKIPPED, error=error)
    if issubclass(kind, RetryTask):
        delay_s, note = _delay_asked_for(error)
        return Ended(OutcomeStatus.RETRY, error=error, retryable=True, retry_delay_s=delay_s, note=note)
    if issubclass(kind, TaskCancelled):
        return Ended(OutcomeStatus.CANCELLED, error=error)
    if issubclass(kind, FailTask | PayloadError | NestedRunError):
        return Ended(OutcomeStatus.FAILED, error=error)
    retryable, note = wants_retry(retry_on, error)
    return Ended(OutcomeStatus.FAILED, error=error, retryable=retryable, note=note)


def _delay_asked_for(error: Any) -> tuple[float | None, str]:
    """The delay of a ``RetryTask``, and a note if what its ``delay`` has become is none: the task's own holds then."""
    try:
        return checked_delay(error.delay), ""
    except BaseException as own:
        from .payload.diagnosis import describe
        from .payload.guard import must_pass

        if must_pass(own):
            raise
        return None, f"the task's own delay is used, for that of its RetryTask is none: {describe(own)}"
