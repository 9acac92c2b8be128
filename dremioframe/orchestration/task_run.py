"""One task of a run as its reader sees it, and its attempts.

What lives here: the records of tasks and attempts. What may not: where they come from (``records``).

An error is made when it is read and not before: that runs code of the user's exception. Who only wants to know how long
an attempt took must not pay for it, nor fail by it. It is made anew each time: whoever raises it adds frames to it,
which would stay, with all their variables, in what others read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NamedTuple

    from .errors import OrchestrationError
    from .machine.states import SkipCause, TaskState
else:
    from .light_typing import NamedTuple


class _Facts(NamedTuple):
    """What is known of an attempt without asking anybody."""

    number: int
    status: str
    worker_pid: int | None = None
    started_s: float | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    peak_is_exact: bool = False
    bytes_in: int = 0
    bytes_out: int = 0


class AttemptRecord(_Facts):
    """One attempt of one task.

    Attributes:
        number: 1 is the first.
        status: ``"SUCCESS"``, ``"FAILED"``, ``"SKIPPED"``, ``"RETRY"`` (asked for), ``"TIMED_OUT"``, ``"CANCELLED"``,
            ``"LOST"`` or ``"OUT_OF_MEMORY"`` (over its ``memory_limit``).
        worker_pid: Process that ran it, or None if not known.
        started_s: When it began to run, in seconds after the run's own start, or None if not known.
        wall_s: Duration in seconds, or None if not known.
        cpu_s: CPU seconds of its process (thread executor: of its thread), or None if not known.
        peak_memory_bytes: Peak resident memory, or None if not known.
        peak_is_exact: False if the peak is the process's high-water mark and not this attempt's own.
        bytes_in: Size of the inputs that came with the attempt, encoded.
        bytes_out: Size of the result, encoded; 0 where nothing was encoded.
        error: What went wrong, or None; made anew whenever it is read.

    Example::

        for attempt in run.tasks["load"].attempts:
            print(attempt.number, attempt.status, attempt.worker_pid, attempt.wall_s)
    """

    _read_error: Callable[[], OrchestrationError | None] | None = None  # only an attempt that failed has one of its own

    @property
    def error(self) -> OrchestrationError | None:
        return None if self._read_error is None else self._read_error()

    def __reduce__(self) -> tuple[Any, ...]:
        return _with_error, (tuple(self), self.error)


def failed_attempt(facts: Sequence[Any], read_error: Callable[[], OrchestrationError | None]) -> AttemptRecord:
    """The record of an attempt whose error, if it is one after all, ``read_error`` makes anew at each call."""
    record = AttemptRecord(*facts)
    record._read_error = read_error  # noqa: SLF001 - a tuple cannot have it set when it is made
    return record


def _with_error(facts: tuple[Any, ...], error: OrchestrationError | None) -> AttemptRecord:
    return AttemptRecord(*facts) if error is None else failed_attempt(facts, error.__copy__)


class TaskRun(NamedTuple):
    """One task in one run.

    Attributes:
        name: The task's name.
        status: Its final state.
        attempts: All attempts that started, in order.
        error: What went wrong in the last attempt, or None; made anew whenever it is read.
        skip_cause: Why it was skipped, or None.

    Example::

        load = run.tasks["load"]
        if load.status == "FAILED":
            print(f"{load.name} failed {len(load.attempts)} times, at last by {load.error}")
    """

    name: str
    status: TaskState
    attempts: list[AttemptRecord]
    skip_cause: SkipCause | None

    @property
    def error(self) -> OrchestrationError | None:
        return self.attempts[-1].error if self.attempts else None


class TaskRuns(Mapping[str, TaskRun]):
    """``PipelineRun.tasks``: records are made when they are read."""

    def __init__(self, record: Callable[[str], TaskRun], names: Sequence[str]) -> None:
        self._record = record
        self._names = names

    def __getitem__(self, name: str) -> TaskRun:
        return self._record(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: {self[name].status}' for name in self)}}}"


class Failures(Mapping[str, "OrchestrationError"]):
    """``PipelineRun.failures``: errors are made when they are read, each alone, for there may be thousands."""

    def __init__(self, names: Sequence[str], error: Callable[[str], OrchestrationError]) -> None:
        self._names = dict.fromkeys(names)
        self._error = error

    def __getitem__(self, name: str) -> OrchestrationError:
        if name not in self._names:  # also if attempts of it have failed
            raise KeyError(name)
        return self._error(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)
