"""What the machine is told (events, in the past tense) and what it asks for (commands, in the imperative).

What lives here: plain values. What may not: behaviour, exceptions of user code, payloads, clocks. A task is its index
in the :class:`~dremioframe.orchestration.dag.dag.Dag`, an attempt its number (1 is the first); both are in every event
and command that concerns an attempt, so that a late one can be told from a current one and dropped.

Only what is rare travels this way. What happens to every task (dispatch, success) goes through the bulk calls of
``RunMachine``: an object per task would cost more than the machine itself.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    from .states import RunState, SkipCause, TaskState
else:
    from ..light_typing import NamedTuple


class StopReason:
    """Why an attempt is to be stopped; small integers, because executors pass them on."""

    TIMEOUT = 0
    CANCEL = 1
    MEMORY = 2


# --- events -----------------------------------------------------------------------------------------------------------


class AttemptFailed(NamedTuple):
    """An attempt ended without success: an error of user code, a time-out, a lost worker.

    Attributes:
        retryable: Whether another attempt may follow, as far as the error is concerned.
        delay_s: Seconds to wait before it, if the task itself said so (``RetryTask``); None means its policy.
        unit_random: A random number in [0, 1) for the jitter.
        abandoned: The attempt was given up, but its code may still be running (a thread).
        refusal: Why no other attempt may follow, in words, if somebody knows.
    """

    task: int
    attempt: int
    retryable: bool
    delay_s: float | None = None
    unit_random: float = 0.0
    abandoned: bool = False
    refusal: str = ""


class AttemptSkipped(NamedTuple):
    """An attempt raised ``SkipTask``."""

    task: int
    attempt: int


class AttemptCancelled(NamedTuple):
    """An attempt that was stopped because the run is being stopped is over."""

    task: int
    attempt: int


class AttemptOverdue(NamedTuple):
    """An attempt runs longer than its time-out."""

    task: int
    attempt: int


class AttemptOverMemory(NamedTuple):
    """An attempt uses more memory than its limit."""

    task: int
    attempt: int


class RetryDue(NamedTuple):
    """The delay after an attempt is over.

    Attributes:
        attempt: The attempt that *ended*, as in :class:`ScheduleRetry`.
        previous_alive: Code of that attempt still runs, so another one would overlap it.
    """

    task: int
    attempt: int
    previous_alive: bool = False


class CancelRequested(NamedTuple):
    """The run is to be stopped."""


Event = (
    AttemptFailed | AttemptSkipped | AttemptCancelled | AttemptOverdue | AttemptOverMemory | RetryDue | CancelRequested
)


# --- commands ---------------------------------------------------------------------------------------------------------


class StopAttempt(NamedTuple):
    """End this attempt for certain and report how it ended.

    Attributes:
        reason: One of :class:`StopReason`.
    """

    task: int
    attempt: int
    reason: int


class ScheduleRetry(NamedTuple):
    """Answer with :class:`RetryDue` for the same task and attempt after ``delay_s`` seconds.

    Attributes:
        attempt: The attempt that ended.
    """

    task: int
    attempt: int
    delay_s: float


class FinishTask(NamedTuple):
    """A task has ended other than by success; sent exactly once for each such task.

    Attributes:
        cause: Set if and only if it is SKIPPED.
        note: What the state alone does not say, in words; may be empty.
    """

    task: int
    state: TaskState
    cause: SkipCause | None
    note: str


class ReleaseResult(NamedTuple):
    """Nothing in this run will read the value of this task any more (``keep_results``)."""

    task: int


class FinishRun(NamedTuple):
    """Every task has ended; sent exactly once, as the last command."""

    state: RunState


Command = StopAttempt | ScheduleRetry | FinishTask | ReleaseResult | FinishRun


class MachineError(RuntimeError):
    """The machine was told something that cannot have happened: a bug in the engine or an executor, please report it.

    The text ends with the task's own story. The event that caused it has changed nothing.
    """
