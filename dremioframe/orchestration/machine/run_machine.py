"""One run of a DAG: which task may start, what follows from what happened, when it is over.

What lives here: every decision about the course of a run. What may not: clocks, randomness, executors, values, logging;
what the rules mean (``dag.trigger_rules``), what a finished task means for others (``propagation``), who goes first
(``ready_queue``), and when a value may go (``release``).

Theory of operation
-------------------
The engine turns this wheel, in one thread::

    commands = machine.start()
    while not machine.finished:
        executor.submit(machine.take(room))          pulled: what every task goes through
        machine.succeeded(batch)
        machine.untake(task, attempt)
        machine.handle(events)                       pushed: what is rare

* All state of a task is a few integers in parallel lists. One finished task costs O(its downstreams), nothing recurses.
* An attempt is (task, number). What concerns an older attempt, or one that has ended, is *stale*: dropped and counted.
  So a result that crosses a time-out or a cancel on its way needs no states of its own. What concerns an attempt that
  was never dispatched cannot be late: it is a :class:`MachineError`, and has changed nothing.
* A task that has ended never changes again. Which of two ends wins is decided by the order in which they are told.
* After ``CancelRequested`` nothing starts and nothing is retried: what is under way is told to stop, everything else is
  CANCELLED at once, and verdicts are no longer sought.
* Same calls, same answers: no set is iterated, no hash matters.
"""

from __future__ import annotations

from ..dag.retry_policy import clamp_delay_s
from ..dag.trigger_rules import F, K, S, Verdict
from .propagation import CAUSE_OF_SKIP, Propagation
from .protocol import (
    AttemptCancelled,
    AttemptFailed,
    AttemptOverdue,
    AttemptOverMemory,
    AttemptSkipped,
    CancelRequested,
    FinishRun,
    FinishTask,
    MachineError,
    ReleaseResult,
    RetryDue,
    ScheduleRetry,
    StopAttempt,
    StopReason,
)
from .ready_queue import ReadyQueue
from .release import KEEP_RESULTS, ReleaseTracker
from .states import ALLOWED_TRANSITIONS, UNDER_WAY, Phase, RunState, SkipCause, TaskState
from .stories import Stories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final, assert_never

    from ..dag.dag import Dag
    from .protocol import Command, Event
else:
    from ..light_typing import assert_never


class RunMachine:
    """The state of one run.

    Args:
        dag: What to run.
        keep_results: Whose values are kept to the end: ``"all"``, ``"leaves"`` or ``"none"``; see ``release``.

    Raises:
        ValueError: ``keep_results`` is none of these.

    Example:
        >>> from dremioframe.orchestration.dag.dag import Dag
        >>> machine = RunMachine(Dag(["a", "b"], [(), (0,)]))
        >>> machine.start(), machine.take(10)
        ([], [(0, 1)])
        >>> machine.succeeded([(0, 1)]), machine.take(10)
        ([], [(1, 1)])
        >>> machine.succeeded([(1, 1)])
        [FinishRun(state=<RunState.SUCCESS: 'SUCCESS'>)]
    """

    __slots__ = (
        "_commands",
        "_ended",
        "_skip_causes",
        "_stories",
        "attempts",
        "cancelled",
        "dag",
        "dispatch_sequence",
        "finish_sequence",
        "phases",
        "propagation",
        "queue",
        "releases",
        "stale",
        "started",
        "state",
    )

    dag: Final[Dag]
    #: RUNNING until the last task has ended.
    state: RunState
    started: bool
    cancelled: bool
    #: How many calls and events were dropped because they came too late.
    stale: int
    #: Per task. To be read only, like all that follows.
    phases: Final[list[Phase]]
    #: Per task, how many attempts have been dispatched and not been returned unstarted: the current attempt's number.
    attempts: Final[list[int]]
    #: Per task, 1, 2, 3, ... in the order in which tasks ended; 0 before.
    finish_sequence: Final[list[int]]
    #: Per task, how many tasks had ended when its latest attempt was dispatched. The attempt may see those, no others.
    dispatch_sequence: Final[list[int]]
    propagation: Final[Propagation]
    queue: Final[ReadyQueue]
    #: None if all results are kept.
    releases: Final[ReleaseTracker | None]

    def __init__(self, dag: Dag, keep_results: str = "all") -> None:
        if keep_results not in KEEP_RESULTS:
            raise ValueError(f"keep_results must be one of {', '.join(map(repr, KEEP_RESULTS))}, not {keep_results!r}")
        self.dag = dag
        self.state = RunState.RUNNING
        self.started = False
        self.cancelled = False
        self.stale = 0
        self.phases = [Phase.PENDING] * dag.n
        self.attempts = [0] * dag.n
        self.finish_sequence = [0] * dag.n
        self.dispatch_sequence = [0] * dag.n
        self.propagation = Propagation(dag)
        self.queue = ReadyQueue(dag)
        self.releases = None if keep_results == "all" else ReleaseTracker(dag, keep_leaves=keep_results == "leaves")
        self._ended = 0
        self._skip_causes: dict[int, SkipCause] = {}
        self._stories = Stories()
        self._commands: list[Command] = []

    # --- what may be asked --------------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether the run is over: it was started and every task has ended."""
        return self.state is not RunState.RUNNING

    @property
    def unfinished(self) -> int:
        """How many tasks have not ended."""
        return self.dag.n - self._ended

    @property
    def ready(self) -> int:
        """How many attempts :meth:`take` could give now."""
        return len(self.queue)

    def task_state(self, task: int) -> TaskState:
        """The public state of a task."""
        return self.phases[task].task_state

    def skip_cause(self, task: int) -> SkipCause | None:
        """Why a task is SKIPPED; None if it is not."""
        return self._skip_causes.get(task)

    def attempt(self, task: int) -> int:
        """The number of the task's latest attempt; 0 before the first."""
        return self.attempts[task]

    def story(self, task: int) -> list[str]:
        """The task's latest transitions with their causes, for people to read; see :class:`Stories`."""
        return self._stories.of(task)

    # --- what every task goes through ---------------------------------------------------------------------------------

    def start(self) -> list[Command]:
        """Begin. To be called once, before anything else."""
        if self.started:
            raise MachineError("the run has been started already")
        self.started = True
        roots = [] if self.cancelled else self.propagation.roots()
        for task in roots:
            self.phases[task] = Phase.READY
        self.queue.extend(roots)
        return self._flush()

    def take(self, limit: int) -> list[tuple[int, int]]:
        """Dispatch the most urgent ready tasks, at most ``limit``.

        Returns:
            ``(task, attempt)`` of each, now RUNNING, most urgent first.
        """
        phases, attempts, dispatch_sequence, ended = self.phases, self.attempts, self.dispatch_sequence, self._ended
        running = Phase.RUNNING
        taken: list[tuple[int, int]] = []
        for task in self.queue.pop(limit):
            phases[task] = running
            attempts[task] = attempt = attempts[task] + 1
            dispatch_sequence[task] = ended
            taken.append((task, attempt))
        return taken

    def untake(self, task: int, attempt: int) -> list[Command]:
        """An attempt never started: its number is given back, and the task is the first of its equals to be taken."""
        if self._is_under_way(task, attempt):
            if self.cancelled:
                self._end(task, Phase.CANCELLED, f"attempt {attempt} never started, the run is being stopped")
            else:
                self._move(task, Phase.READY, f"attempt {attempt} never started")
                self.queue.push_front(task)
            self.attempts[task] -= 1
        return self._flush()

    def succeeded(self, ended: Iterable[tuple[int, int]]) -> list[Command]:
        """These ``(task, attempt)`` have returned. What was told to stop may still succeed: its result came first."""
        phases, attempts, finish_sequence = self.phases, self.attempts, self.finish_sequence
        downstreams, releases = self.dag.downstreams, self.releases
        success, under_way = Phase.SUCCESS, UNDER_WAY
        for task, attempt in ended:
            if attempts[task] != attempt or phases[task] not in under_way:
                self._drop(task, attempt)
                continue
            phases[task] = success
            self._ended = finish_sequence[task] = self._ended + 1
            if releases is not None:
                self._release(task)
            if downstreams[task]:
                self._settle(task, S)
        return self._flush()

    # --- what is rare -------------------------------------------------------------------------------------------------

    def handle(self, events: Iterable[Event]) -> list[Command]:
        """Take in what happened, in this order, and say what is to be done about it, in this order."""
        for event in events:
            match event:
                case AttemptFailed():
                    self._on_attempt_failed(event)
                case AttemptSkipped():
                    self._on_attempt_skipped(event)
                case AttemptCancelled():
                    self._on_attempt_cancelled(event)
                case AttemptOverdue(task, attempt):
                    self._stop(task, attempt, StopReason.TIMEOUT, "ran longer than its time-out")
                case AttemptOverMemory(task, attempt):
                    self._stop(task, attempt, StopReason.MEMORY, "used more memory than its limit")
                case RetryDue():
                    self._on_retry_due(event)
                case CancelRequested():
                    self._on_cancel_requested()
                case _:
                    assert_never(event)
        return self._flush()

    def _on_attempt_failed(self, event: AttemptFailed) -> None:
        task, attempt = event.task, event.attempt
        if not self._is_under_way(task, attempt):
            return
        if self.phases[task] is Phase.STOPPING_CANCEL:
            self._end(task, Phase.CANCELLED, f"attempt {attempt} was stopped with the run")
        elif (refusal := self._why_no_retry(event)) is not None:
            self._end(task, Phase.FAILED, refusal + "; its code may still be running" * event.abandoned)
            self._settle(task, F)
        elif self.cancelled:
            self._end(task, Phase.CANCELLED, f"attempt {attempt} failed, no retry because the run is being stopped")
        else:
            self._wait_for_retry(event)

    def _why_no_retry(self, event: AttemptFailed) -> str | None:
        retries = self.dag.policies[event.task].retries
        failed = f"attempt {event.attempt} failed"
        if not event.retryable:
            return f"{failed}, {event.refusal or 'its error is not to be retried'}"
        if event.attempt > retries:
            return f"{failed}, {'no retries left' if retries else 'it has no retries'}"
        return None

    def _wait_for_retry(self, event: AttemptFailed) -> None:
        task, attempt, own_delay_s = event.task, event.attempt, event.delay_s
        delay_s = self.dag.policies[task].delay_s_before(attempt, event.unit_random)
        if own_delay_s is not None:
            delay_s = clamp_delay_s(own_delay_s)
        self._move(task, Phase.RETRY_WAIT, f"attempt {attempt} failed, the next one follows in {delay_s:.3g} s")
        self._commands.append(ScheduleRetry(task, attempt, delay_s))

    def _on_attempt_skipped(self, event: AttemptSkipped) -> None:
        if self._is_under_way(event.task, event.attempt):
            self._end(event.task, Phase.SKIPPED, f"attempt {event.attempt} raised SkipTask", SkipCause.RAISED)
            self._settle(event.task, K)

    def _on_attempt_cancelled(self, event: AttemptCancelled) -> None:
        if not self._is_under_way(event.task, event.attempt):
            return
        if not self.cancelled:
            raise self._error(event.task, f"attempt {event.attempt} was reported as cancelled, but the run was not")
        self._end(event.task, Phase.CANCELLED, f"attempt {event.attempt} was stopped with the run")

    def _stop(self, task: int, attempt: int, reason: int, why: str) -> None:
        """An attempt is over one of its limits."""
        if not self._is_under_way(task, attempt):
            return
        if self.phases[task] is Phase.RUNNING:
            self._move(task, Phase.STOPPING_LIMIT, f"attempt {attempt} {why}")
            self._commands.append(StopAttempt(task, attempt, reason))
        else:
            self.stale += 1  # it is being stopped already

    def _on_retry_due(self, event: RetryDue) -> None:
        task, attempt = event.task, event.attempt
        if attempt > self.attempts[task] or (attempt == self.attempts[task] and self.phases[task] in UNDER_WAY):
            raise self._error(task, f"a retry is due after attempt {attempt}, which has not ended")
        if attempt != self.attempts[task] or self.phases[task] is not Phase.RETRY_WAIT:
            self.stale += 1
        elif event.previous_alive:
            self._end(task, Phase.FAILED, f"no retry: code of attempt {attempt} still runs, and attempts never overlap")
            self._settle(task, F)
        else:
            self._move(task, Phase.READY, f"the delay after attempt {attempt} is over")
            self.queue.push(task)

    def _on_cancel_requested(self) -> None:
        if self.cancelled or self.finished:
            return
        self.cancelled = True
        self.queue.clear()
        for task, phase in enumerate(self.phases):
            if phase is Phase.RUNNING:
                self._move(task, Phase.STOPPING_CANCEL, "the run is being stopped")
                self._commands.append(StopAttempt(task, self.attempts[task], StopReason.CANCEL))
            elif not phase.is_terminal and phase not in UNDER_WAY:
                self._end(task, Phase.CANCELLED, f"the run was stopped before attempt {self.attempts[task] + 1}")

    # --- steps --------------------------------------------------------------------------------------------------------

    def _is_under_way(self, task: int, attempt: int) -> bool:
        if self.attempts[task] == attempt and self.phases[task] in UNDER_WAY:
            return True
        self._drop(task, attempt)
        return False

    def _drop(self, task: int, attempt: int) -> None:
        if attempt > self.attempts[task]:
            raise self._error(task, f"attempt {attempt} was reported, but it has not been dispatched")
        self.stale += 1

    def _move(self, task: int, phase: Phase, why: str) -> None:
        before = self.phases[task]
        if (before, phase) not in ALLOWED_TRANSITIONS:
            raise self._error(task, f"it cannot go from {before.name} to {phase.name} ({why})")
        self.phases[task] = phase
        self._stories.add(task, before, phase, why)

    def _end(self, task: int, phase: Phase, why: str, cause: SkipCause | None = None) -> None:
        self._move(task, phase, why)
        self._ended = self.finish_sequence[task] = self._ended + 1
        if cause is not None:
            self._skip_causes[task] = cause
        self._commands.append(FinishTask(task, phase.task_state, cause, why))
        self._release(task)

    def _settle(self, finished: int, outcome: int) -> None:
        if self.cancelled:
            return
        for task, verdict in self.propagation.settle(finished, outcome):
            if verdict is Verdict.RUN:
                self.phases[task] = Phase.READY
                self.queue.push(task)
            else:
                self._end(task, Phase.SKIPPED, f"rule {self.dag.rules[task]}", CAUSE_OF_SKIP[verdict])

    def _release(self, finished: int) -> None:
        if self.releases is None:
            return
        for task in self.releases.task_finished(finished):
            if self.phases[task] is Phase.SUCCESS:
                self._commands.append(ReleaseResult(task))

    def _flush(self) -> list[Command]:
        if self._ended == self.dag.n and self.started and not self.finished:
            self.state = self._final_state()
            self._commands.append(FinishRun(self.state))
        commands, self._commands = self._commands, []
        return commands

    def _final_state(self) -> RunState:
        if Phase.CANCELLED in self.phases:
            return RunState.CANCELLED
        return RunState.FAILED if Phase.FAILED in self.phases else RunState.SUCCESS

    def _error(self, task: int, what: str) -> MachineError:
        here = f"task {self.dag.names[task]!r} is {self.phases[task].name} at attempt {self.attempts[task]}"
        story = "".join(f"\n  {line}" for line in self.story(task))
        return MachineError(f"{here}: {what}{story and '; its story:' + story}")
