"""What the engine asks of an executor, and what an executor may ask of the engine.

What lives here: Protocols with their contracts, and the few value types that cross them. What may not: behaviour.

One run, seen from here::

    engine                                   executor
    session = executor.open(plan, inputs)    -> ready to take attempts
    session.submit([(task, attempt), ...])   -> as many as room() said
    turn = session.wait(timeout_s)           -> what ended, what never started, what is overdue
    session.stop(task, attempt, reason)      -> ... reported as ended once the attempt is really over
    session.kill()                           -> the same for all of them, at once and without grace
    session.close()                          -> nothing of this run stays; says whose code still runs

Tasks are named by their dense index in ``plan.dag`` and attempts by their number (1 is the first), everywhere.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NamedTuple, Protocol

    from .dag.dag import Dag
    from .payload.failure import Failure
    from .task import Task
else:
    from .light_typing import NamedTuple, Protocol


class OutcomeStatus:
    """How one attempt ended; small integers because they travel in a frame header."""

    SUCCESS = 0
    FAILED = 1  # user code raised, or its payloads failed: ``failure`` says what
    SKIPPED = 2  # SkipTask
    RETRY = 3  # RetryTask: ``retry_delay_s`` may ask for a delay of its own
    TIMED_OUT = 4  # ended by stop(..., StopReason.TIMEOUT); confirmed dead, or ``abandoned``
    CANCELLED = 5  # ended by stop(..., StopReason.CANCEL)
    LOST = 6  # its worker died
    OUT_OF_MEMORY = 7  # ended by stop(..., StopReason.MEMORY)


class AttemptStats(NamedTuple):
    """What one attempt cost.

    Attributes:
        pid: Process that ran it.
        started_at_s: Start on the executor's monotonic clock, seconds; None, like all that follows, if its process
            did not live to tell.
        wall_s: Duration in seconds.
        cpu_s: CPU seconds of the process during the attempt.
        peak_memory_bytes: Peak resident memory, or None if unknown.
        peak_is_exact: False if it is the worker's high-water mark so far and not this attempt's own peak.
        bytes_in: Size of the encoded inputs that came with the attempt or were fetched by it.
        bytes_out: Size of the encoded result.
    """

    pid: int
    started_at_s: float | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    peak_is_exact: bool = False
    bytes_in: int = 0
    bytes_out: int = 0


class Outcome(Protocol):
    """What one attempt produced. Cheap to hold: details are decoded when somebody asks."""

    @property
    def status(self) -> int:
        """One of :class:`OutcomeStatus`."""

    @property
    def stats(self) -> AttemptStats | None:
        """Cost of the attempt, or None if it never got to a worker."""

    @property
    def failure(self) -> Failure | None:
        """What went wrong; set for every status but SUCCESS."""

    @property
    def retryable(self) -> bool:
        """Whether the task's ``retry_on`` wants another attempt. Judged where the error happened."""

    @property
    def retry_delay_s(self) -> float | None:
        """The delay that RetryTask asked for."""

    @property
    def abandoned(self) -> bool:
        """True if the code may still be running (a thread that was timed out)."""

    def load(self) -> object:
        """The return value, unpickled now if need be.

        Raises:
            payload.codec.DecodeError: It cannot be unpickled.
        """

    def release(self) -> None:
        """Give up the value (memory, descriptors). ``load`` must not be called afterwards."""


class Turn(NamedTuple):
    """What one ``wait`` brought.

    Attributes:
        ended: ``(task, attempt, outcome)`` of attempts that are over.
        returned: ``(task, attempt)`` that were submitted, never started and must be dispatched again, free of charge.
        overdue: ``(task, attempt)`` that run longer than their time-out. Each is said once.
        over_memory: ``(task, attempt)`` that use more memory than their limit. Each is said once.
        warnings: What the user should know now, in words.
    """

    ended: list[tuple[int, int, Outcome]]
    returned: list[tuple[int, int]]
    overdue: list[tuple[int, int]]
    over_memory: Sequence[tuple[int, int]] = ()
    warnings: Sequence[str] = ()


class Plan(NamedTuple):
    """One run as an executor sees it. Frozen.

    Attributes:
        run_id: Unique text.
        pipeline_name: As given by the user.
        dag: The graph; ``dag.names[i]``, ``dag.takes_context[i]``, ...
        tasks: The definitions, by index (``action``, ``args``, ``kwargs``, ``retry_on``, ``on_kill``).
        timeouts: Seconds one attempt of each task may take, or None; as they were when the run began.
        context: The run's own values.
        max_workers: Ceiling of attempts running at once, or None for the executor's own.
        memory_limits: Most bytes of private memory that one attempt may use, for those tasks that have a limit. Empty
            unless the executor ``limits_memory``.
    """

    run_id: str
    pipeline_name: str
    dag: Dag
    tasks: Sequence[Task]
    timeouts: Sequence[float | None]
    context: Mapping[str, object]
    max_workers: int | None
    memory_limits: Mapping[int, int] = {}


class Inputs(Protocol):
    """What an attempt may know of the rest of the run. Provided by the engine; callable from any thread.

    Upstream means direct or indirect. All answers are as of the dispatch of that attempt.
    """

    def direct(self, task: int) -> Sequence[tuple[str, Outcome]]:
        """Name and outcome of each direct upstream that succeeded before this dispatch, in order of declaration."""

    def outcome(self, task: int, attempt: int, name: str) -> Outcome:
        """The outcome of one upstream that succeeded.

        Raises:
            KeyError: Not an upstream, or it has no value; the text says which, and why.
        """

    def states(self, task: int, attempt: int) -> Sequence[tuple[str, str]]:
        """Name and state of all upstreams, direct ones first; PENDING if not finished by then."""

    def failures(self, task: int, attempt: int) -> Sequence[tuple[str, int, Failure]]:
        """What failed upstream: task name, number of its last attempt, what happened then."""


class Session(Protocol):
    """One run's use of an executor. Called from one thread only, except ``wake``."""

    def now(self) -> float:
        """Monotonic seconds; virtual under simulation."""

    def room(self) -> int:
        """How many attempts ``submit`` would take now without making one wait behind a long one needlessly."""

    def submit(self, attempts: Sequence[tuple[int, int]]) -> None:
        """Start these, in this order, as soon as possible. Never blocks, never raises for one task's sake: an attempt
        that cannot be sent (an unpicklable argument) is reported by the next ``wait`` as ended.
        """

    def stop(self, task: int, attempt: int, reason: int) -> None:
        """End this attempt for certain; ``reason`` is one of ``machine.protocol.StopReason``.

        What had been received before wins. Reported by a later ``wait``: as ended when it is confirmed over, or as
        returned if it had never started.
        """

    def kill(self) -> None:
        """End everything at once, without grace (second Ctrl-C). The ends are still reported."""

    def wait(self, timeout_s: float | None) -> Turn:
        """Block until something is to be told, ``wake`` was called, or the time is over; None means no limit.

        Raises:
            WorkerStartError: No worker can be started; the run cannot go on.
        """

    def wake(self) -> None:
        """Make a running or the next ``wait`` return at once. Callable from any thread and from a signal handler."""

    def interrupt(self, *, stop: bool) -> bool:
        """A signal arrived; called from its handler. Does what ``wake`` does.

        Args:
            stop: It asks for the end of the run.

        Returns:
            Whether user code runs in this very thread. It sees the signal then, a stop as KeyboardInterrupt.
        """

    def is_running(self, task: int, attempt: int) -> bool:
        """Whether code of this (abandoned) attempt still runs."""

    def close(self) -> list[tuple[str | None, str]]:
        """Give everything back. Returns what the user should be warned of: the task or None, and the text."""


class Executor(Protocol):
    """A way to run attempts. May serve many runs, several at once.

    One that has an attribute ``limits_memory`` which is True gets plans with memory limits.
    """

    name: str

    def open(self, plan: Plan, inputs: Inputs) -> Session:
        """Begin one run.

        Raises:
            ExecutorClosedError: It was closed, or belongs to another process.
            DefinitionError: It cannot run this plan (an option it does not know).
            WorkerStartError: There is nothing to run attempts in.
            NestedRunError: It is in the middle of a run in this thread, and cannot begin another there.
        """

    def close(self) -> None:
        """End all workers. Idempotent."""


if TYPE_CHECKING:
    RetryPredicate = Callable[[BaseException], bool]
    RetryOn = type[BaseException] | tuple[type[BaseException], ...] | RetryPredicate
