"""The states of tasks and runs, and which may follow which.

What lives here: the public vocabulary (:class:`TaskState`, :class:`RunState`, :class:`SkipCause`), the finer phases
the machine works with, and the table of transitions between them, from which the picture in the documentation is
drawn. What may not: the reasons why the machine takes a transition; they are in ``run_machine``.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


class TaskState(StrEnum):
    """Where a task stands in a run. Equal to its plain string.

    Example:
        >>> TaskState.SUCCESS == "SUCCESS", f"{TaskState.SUCCESS}"
        (True, 'SUCCESS')
    """

    PENDING = "PENDING"
    """Not running: it waits for upstreams, for a free worker, or for the delay before a retry."""
    RUNNING = "RUNNING"
    """An attempt has been dispatched and has not ended."""
    SUCCESS = "SUCCESS"
    """An attempt returned."""
    FAILED = "FAILED"
    """Its last attempt failed, timed out or lost its worker."""
    SKIPPED = "SKIPPED"
    """It did not run, or raised ``SkipTask``; see :class:`SkipCause`."""
    CANCELLED = "CANCELLED"
    """The run was stopped before the task had ended."""


class RunState(StrEnum):
    """Where a run stands. Equal to its plain string.

    Example:
        >>> RunState("FAILED") is RunState.FAILED
        True
    """

    RUNNING = "RUNNING"
    """Some task has not ended."""
    SUCCESS = "SUCCESS"
    """All tasks have ended and none FAILED; skipped ones are no failure."""
    FAILED = "FAILED"
    """All tasks have ended and at least one FAILED."""
    CANCELLED = "CANCELLED"
    """The run was stopped before all tasks had ended."""


class SkipCause(StrEnum):
    """Why a task is SKIPPED. Equal to its plain string.

    Example:
        >>> SkipCause.RULE == "RULE"
        True
    """

    UPSTREAM_FAILED = "UPSTREAM_FAILED"
    """Something before it failed."""
    RULE = "RULE"
    """Its trigger rule was not met, and no failure is to blame."""
    NOT_CHOSEN = "NOT_CHOSEN"
    """A branch chose others."""
    RAISED = "RAISED"
    """It raised ``SkipTask``."""


class Phase(IntEnum):
    """Where a task stands, as the machine sees it. Each phase maps to one :class:`TaskState`."""

    PENDING = 0  # no verdict yet
    READY = 1  # in the ready queue
    RUNNING = 2  # taken; an attempt is under way
    STOPPING_LIMIT = 3  # under way, told to stop because it is over a limit: of time or of memory
    STOPPING_CANCEL = 4  # under way, told to stop because the run is
    RETRY_WAIT = 5  # the delay before the next attempt
    SUCCESS = 6
    FAILED = 7
    SKIPPED = 8
    CANCELLED = 9

    @property
    def task_state(self) -> TaskState:
        """The public state this phase stands for."""
        return _TASK_STATES[self]

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended; no transition leads out."""
        return self >= Phase.SUCCESS


#: The phases in which an attempt may be executing.
UNDER_WAY: Final = (Phase.RUNNING, Phase.STOPPING_LIMIT, Phase.STOPPING_CANCEL)

_TASK_STATES: Final = (
    TaskState.PENDING,
    TaskState.PENDING,
    TaskState.RUNNING,
    TaskState.RUNNING,
    TaskState.RUNNING,
    TaskState.PENDING,
    TaskState.SUCCESS,
    TaskState.FAILED,
    TaskState.SKIPPED,
    TaskState.CANCELLED,
)

#: Every transition there is, and what brings it about. What is not here is a bug.
ALLOWED_TRANSITIONS: Final[dict[tuple[Phase, Phase], str]] = {
    (Phase.PENDING, Phase.READY): "rule says run",
    (Phase.PENDING, Phase.SKIPPED): "rule says skip",
    (Phase.PENDING, Phase.CANCELLED): "cancel",
    (Phase.READY, Phase.RUNNING): "take",
    (Phase.READY, Phase.CANCELLED): "cancel",
    (Phase.RUNNING, Phase.READY): "untake (never started)",
    (Phase.RUNNING, Phase.SUCCESS): "returned",
    (Phase.RUNNING, Phase.SKIPPED): "raised SkipTask",
    (Phase.RUNNING, Phase.RETRY_WAIT): "failed, retries left",
    (Phase.RUNNING, Phase.FAILED): "failed, no retry",
    (Phase.RUNNING, Phase.STOPPING_LIMIT): "over a limit",
    (Phase.RUNNING, Phase.STOPPING_CANCEL): "cancel",
    (Phase.STOPPING_LIMIT, Phase.READY): "untake (never started)",
    (Phase.STOPPING_LIMIT, Phase.SUCCESS): "returned before the kill",
    (Phase.STOPPING_LIMIT, Phase.SKIPPED): "raised SkipTask before the kill",
    (Phase.STOPPING_LIMIT, Phase.RETRY_WAIT): "stopped, retries left",
    (Phase.STOPPING_LIMIT, Phase.FAILED): "stopped, no retry",
    (Phase.STOPPING_LIMIT, Phase.CANCELLED): "never started, or cut short by cancel",
    (Phase.STOPPING_CANCEL, Phase.SUCCESS): "returned before the kill",
    (Phase.STOPPING_CANCEL, Phase.SKIPPED): "raised SkipTask before the kill",
    (Phase.STOPPING_CANCEL, Phase.CANCELLED): "stopped",
    (Phase.RETRY_WAIT, Phase.READY): "delay over",
    (Phase.RETRY_WAIT, Phase.FAILED): "delay over, previous attempt still runs",
    (Phase.RETRY_WAIT, Phase.CANCELLED): "cancel",
}


def render_state_diagram() -> str:
    """The transition table as the text of a Mermaid state diagram.

    Example:
        >>> print(render_state_diagram().splitlines()[0])
        stateDiagram-v2
    """
    lines = ["stateDiagram-v2", f"    [*] --> {Phase.PENDING.name}"]
    lines += [f"    {start.name} --> {end.name}: {why}" for (start, end), why in ALLOWED_TRANSITIONS.items()]
    lines += [f"    {phase.name} --> [*]" for phase in Phase if phase.is_terminal]
    return "\n".join(lines) + "\n"
