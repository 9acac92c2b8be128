"""Every error of the engine, in one tree.

::

    Exception
    ├── OrchestrationError            root: catch this to catch all of them
    │   ├── DefinitionError           (also ValueError) the pipeline as written cannot run
    │   ├── TaskError                 an exception of the user's code; the original is ``__cause__``
    │   ├── TaskTimeoutError          (also TimeoutError) one attempt ran longer than its ``timeout``
    │   ├── MemoryLimitExceededError  (also MemoryError) one attempt used more memory than its ``memory_limit``
    │   ├── WorkerLostError           the process that ran the attempt died
    │   ├── WorkerStartError          no worker process could be started
    │   ├── PayloadError              something could not be pickled or unpickled
    │   ├── RunCancelledError         the run was stopped before it was over
    │   ├── ExecutorClosedError       a closed executor, or what was inherited through ``os.fork``, was used
    │   ├── NestedRunError            a run or a factory was called where only plain functions may be
    │   └── RunFailedError            (also ExceptionGroup) all failures of one run
    ├── SkipTask, FailTask, RetryTask   raised *by* task code to steer its own attempt
    BaseException
    └── TaskCancelled                 raised *in* task code when its attempt is being stopped

What lives here: classes and their texts. What may not: decisions, imports of other parts of the package. All of
them survive pickling with their attributes and their cause; a cause that cannot be pickled leaves a stand-in.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Self


def _as_it_is(cause: BaseException, _traceback_text: str) -> object:
    return cause


#: What stands for the cause of an error in a pickle. Pickle cannot do local classes and drops the cause's own cause;
#: the payload layer knows better, and says so here when it is loaded, for this module may not ask it.
pickled_cause: Callable[[BaseException, str], object] = _as_it_is


class OrchestrationError(Exception):
    """Root of all errors raised by the engine.

    Attributes:
        task: Name of the task concerned, or None when no single task is.
        attempt: Number of the attempt concerned (1 is the first), or None.
        run: The run that ended with this error, as far as it came; None for all other errors.
    """

    run: Any = None

    def __init__(self, message: str, *, task: str | None = None, attempt: int | None = None) -> None:
        super().__init__(message)
        self.task = task
        self.attempt = attempt

    def __reduce__(self) -> tuple[Any, ...]:
        cause = self.__cause__
        if cause is None:
            return self._reduced(None)
        return self._reduced(pickled_cause(cause, getattr(self, "traceback_text", "")))

    def _reduced(self, cause: object) -> tuple[Any, ...]:
        """What a pickler needs, with ``cause`` in the place of the cause. BaseException's own way would drop it."""
        state = dict(self.__dict__)
        if cause is not None:
            state["__cause__"] = cause
        run: Any = state.get("run")
        if hasattr(run, "_salvaged"):
            state["run"] = run._salvaged()  # noqa: SLF001 - the one thing that an error asks of its run
        return type(self), self.args, state

    def __copy__(self) -> Self:
        copy = type(self)(*self.args)
        copy.__dict__.update(self.__dict__)
        copy.__cause__, copy.__suppress_context__ = self.__cause__, self.__suppress_context__
        return copy


class DefinitionError(OrchestrationError, ValueError):
    """The pipeline cannot run as written; nothing has been started.

    The message names every task concerned.
    """


class TaskError(OrchestrationError):
    """Task code raised an exception.

    The exception itself is ``__cause__``; where it could not travel between processes, ``__cause__`` is a
    :class:`RemoteError` that carries its name and text.

    Attributes:
        error_type: Qualified name of the class of the original exception.
        traceback_text: The traceback as formatted where the code ran.
    """

    def __init__(
        self,
        message: str,
        *,
        task: str | None = None,
        attempt: int | None = None,
        error_type: str = "",
        traceback_text: str = "",
    ) -> None:
        super().__init__(message, task=task, attempt=attempt)
        self.error_type = error_type
        self.traceback_text = traceback_text


class RemoteError(Exception):
    """Stand-in for a user's exception that could not be pickled.

    Attributes:
        error_type: Qualified name of the class of the original exception.
        traceback_text: The traceback as formatted where the code ran.
    """

    def __init__(self, message: str, error_type: str = "", traceback_text: str = "") -> None:
        super().__init__(message, error_type, traceback_text)
        self.error_type = error_type
        self.traceback_text = traceback_text

    def __str__(self) -> str:
        return f"{self.error_type}: {self.args[0]}"


class TaskTimeoutError(OrchestrationError, TimeoutError):
    """One attempt ran longer than the task's ``timeout`` and was ended.

    Attributes:
        timeout_s: The limit in seconds.
        stack: Stack of the worker's threads just before it was told to stop; empty if it could not be had.
    """

    def __init__(
        self,
        message: str,
        *,
        task: str | None = None,
        attempt: int | None = None,
        timeout_s: float = 0.0,
        stack: str = "",
    ) -> None:
        super().__init__(message, task=task, attempt=attempt)
        self.timeout_s = timeout_s
        self.stack = stack


class MemoryLimitExceededError(OrchestrationError, MemoryError):
    """One attempt used more private memory than the task's ``memory_limit`` and was ended.

    Attributes:
        limit_bytes: The limit.
        used_bytes: What the attempt used when that was noticed, its child processes included.
        processes: ``(pid, short name, bytes)`` of each of its processes, the worker first.
        stack: Stack of the worker's threads just before it was told to stop; empty if it could not be had.
    """

    def __init__(
        self,
        message: str,
        *,
        task: str | None = None,
        attempt: int | None = None,
        limit_bytes: int = 0,
        used_bytes: int = 0,
        processes: Sequence[tuple[int, str, int]] = (),
        stack: str = "",
    ) -> None:
        super().__init__(message, task=task, attempt=attempt)
        self.limit_bytes = limit_bytes
        self.used_bytes = used_bytes
        self.processes = tuple(processes)
        self.stack = stack


class WorkerLostError(OrchestrationError):
    """The worker process died while it ran the attempt.

    Attributes:
        pid: Process id of the worker.
        exit_code: Its exit code, or None if a signal ended it or its status is unknown.
        signal: Number of the signal that ended it, or None.
        stack: Stack dump that the dying process left, if any.
    """

    def __init__(
        self,
        message: str,
        *,
        task: str | None = None,
        attempt: int | None = None,
        pid: int | None = None,
        exit_code: int | None = None,
        signal: int | None = None,
        stack: str = "",
    ) -> None:
        super().__init__(message, task=task, attempt=attempt)
        self.pid = pid
        self.exit_code = exit_code
        self.signal = signal
        self.stack = stack


class WorkerStartError(OrchestrationError):
    """No worker could be started.

    Attributes:
        boot_traceback: What the last worker, or the fork server, said before it gave up.
    """

    def __init__(self, message: str, *, boot_traceback: str = "") -> None:
        super().__init__(message)
        self.boot_traceback = boot_traceback


class PayloadError(OrchestrationError):
    """An object could not be pickled or unpickled.

    Attributes:
        stage: One of ``"code_pickle"``, ``"code_unpickle"``, ``"args_pickle"``, ``"args_unpickle"``,
            ``"context_pickle"``, ``"context_unpickle"``, ``"result_pickle"``, ``"result_unpickle"``; or
            ``"code_transfer"``, ``"args_transfer"``, ``"context_transfer"``, ``"result_transfer"`` (no memory, disk or
            descriptor was left for it).
        path: Where in the value the bad object sits, e.g. ``"result['rows'][3].lock"``.
    """

    def __init__(
        self,
        message: str,
        *,
        task: str | None = None,
        attempt: int | None = None,
        stage: str = "",
        path: str = "",
    ) -> None:
        super().__init__(message, task=task, attempt=attempt)
        self.stage = stage
        self.path = path


class RunCancelledError(OrchestrationError):
    """The run was stopped (``cancel()``, ``run(timeout=...)``, Ctrl-C) before all tasks had ended.

    Attributes:
        run: The run as far as it came.
    """

    def __init__(self, message: str, *, run: Any = None) -> None:
        super().__init__(message)
        self.run = run


class ExecutorClosedError(OrchestrationError):
    """The executor is closed, or belongs to another process (it was inherited through ``os.fork``).

    The same goes for the handle of a run or a schedule that was inherited while it went on.
    """


class NestedRunError(OrchestrationError):
    """``run()`` was called inside a worker process, or a task factory inside a running task.

    Also if code that a run waits for in its own thread, a signal handler, say, starts another run on the same
    ``ProcessExecutor``: each could wait for the other's workers.
    """


class RunFailedError(ExceptionGroup, OrchestrationError):
    """All failures of one run, in the order in which the tasks were declared.

    Attributes:
        run: The run they come from.
    """

    def __new__(cls, message: str, errors: Sequence[Exception], *, run: Any = None) -> Self:
        group = super().__new__(cls, message, errors)
        group.run = run
        return group

    def __init__(self, message: str, errors: Sequence[Exception], *, run: Any = None) -> None:
        self.task = None
        self.attempt = None

    def derive(self, errors: Sequence[Exception], /) -> RunFailedError:  # type: ignore[override]
        return RunFailedError(self.message, errors, run=self.run)


class SkipTask(Exception):
    """Raise it in task code to end the task as SKIPPED.

    Args:
        reason: Said in ``explain`` and in the log.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class FailTask(Exception):
    """Raise it in task code to end the task as FAILED without a retry.

    Args:
        reason: Becomes the message of the task's error.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class RetryTask(Exception):
    """Raise it in task code to ask for another attempt. It counts as an attempt; none left means FAILED.

    Args:
        delay: Seconds to wait before the next attempt; None means the task's own backoff. So does an attribute
            ``delay`` that was changed after construction to what would have been refused here: the attempt still asks
            for another one, and a note on its error says that its delay was not used.
        reason: Said in the log.

    Raises:
        ValueError: ``delay`` is no finite number of seconds, 0 or more. (It fails the attempt, as any error would.)
    """

    def __init__(self, delay: float | None = None, reason: str = "") -> None:
        self.delay = checked_delay(delay)
        super().__init__(delay, reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason or "asks for another attempt"


def checked_delay(delay: Any) -> float | None:
    """The delay of a :class:`RetryTask` in seconds; None stands for the task's own.

    Raises:
        ValueError: It is no finite number of seconds, 0 or more.
    """
    if delay is None:
        return None
    if isinstance(delay, bool | str) or not hasattr(delay, "__float__"):
        seconds = -1.0
    else:
        try:
            seconds = float(delay)
        except OverflowError:  # an int beyond all floats, of which not even the digits can always be told
            raise ValueError("RetryTask(delay) must be a finite number of seconds; this is too large for one") from None
    if not 0.0 <= seconds < float("inf"):
        raise ValueError(
            f"RetryTask(delay) must be a finite number of seconds, 0 or more, or None, not {delay!r}; "
            "the reason is the second argument"
        )
    return seconds


class TaskCancelled(BaseException):
    """Raised in task code when its attempt is being stopped, so that ``finally`` blocks run.

    It is no ``Exception`` on purpose: ``except Exception`` must not swallow it.
    """
