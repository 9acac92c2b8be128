"""The loop of one run: wait, collect events, ask the machine, perform its commands.

::

      executor session ──ended/returned/overdue──►┐
      retry timers ─────────due──────────────────►│ RunMachine │──StopAttempt──► session.stop
      signals, cancel(), run time-out ─cancel────►│            │──ScheduleRetry─► timers
                                                  └────────────┘──ReleaseResult─► results
      session.submit ◄── take(room) ◄── ready

What lives here: the loop and one small function per command. What may not: what an event means (``machine``), how an
attempt runs (``executors``, ``user_code``), unpickling of user data (nobody in this loop).
"""

from __future__ import annotations

import os
from random import Random

from .. import failpoints
from ..attempt import LocalOutcome
from ..errors import ExecutorClosedError, FailTask, OrchestrationError, WorkerStartError
from ..interfaces import OutcomeStatus
from ..machine.protocol import (
    AttemptCancelled,
    AttemptFailed,
    AttemptOverdue,
    AttemptOverMemory,
    AttemptSkipped,
    CancelRequested,
    FinishRun,
    FinishTask,
    ReleaseResult,
    RetryDue,
    ScheduleRetry,
    StopAttempt,
)
from ..machine.run_machine import RunMachine
from ..machine.states import UNDER_WAY, SkipCause, TaskState
from ..payload.failure import Failure
from ..retry_on import wants_retry, why_none
from .results import Results
from .run_log import RunLog
from .timers import RetryTimers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import assert_never

    from ..interfaces import Executor, Outcome, Plan, Session, Turn
    from ..machine.protocol import Command, Event
    from ..run_data import RunData
    from .interrupts import Interrupts
else:
    from ..light_typing import assert_never

_FAIL_TASK = f"{FailTask.__module__}.{FailTask.__qualname__}"


class Coordinator:
    """Runs one plan to its end, in the calling thread.

    ``cancel`` may be called from any thread at any time; everything else belongs to the thread that calls ``run``.
    """

    def __init__(
        self,
        plan: Plan,
        executor: Executor,
        data: RunData,
        interrupts: Interrupts,
        *,
        keep_results: str = "all",
        timeout_s: float | None = None,
        seed: int | None = None,
        after_event: Callable[[RunMachine], None] | None = None,
    ) -> None:
        """
        Args:
            keep_results: ``"all"``, ``"leaves"`` or ``"none"``.
            timeout_s: Seconds after which the run is cancelled, or None.
            seed: Of the jitter of retry delays; None takes one from the system.
            after_event: Called after every change of the machine; for tests.
        """
        self._plan = plan
        self._dag = plan.dag
        self._data = data
        self._executor = executor
        self._interrupts = interrupts
        self._timeout_s = timeout_s
        self._random = Random(seed)
        self._machine = RunMachine(plan.dag, keep_results)
        self._results = Results(data, self._machine, plan.context)
        self._timers = RetryTimers()
        self._log = RunLog(data)
        self._after_event = after_event
        self._session: Session
        self._deadline_s: float | None = None
        self._cancel_asked = False
        self._cancel_sent = False
        self._kill_sent = False
        self._given_up = False
        self._pid = os.getpid()
        self._logged_start = False
        self._eventful: set[int] = set()  # tasks of which there is more to tell than "ran, succeeded"

    def cancel(self) -> None:
        """Stop the run: nothing new starts, what runs gets the grace period."""
        self._cancel_asked = True
        self._wake()

    def _wake(self) -> None:
        session = getattr(self, "_session", None)
        if session is not None:
            session.wake()

    def run(self) -> None:
        """Run to the end; what came of it is in the run's data.

        Raises:
            WorkerStartError: No worker could be started, or listened to; unfinished tasks are CANCELLED.
            ExecutorClosedError: The executor was closed; or a signal handler has forked, and this is the child.
            NestedRunError: This thread is in the middle of another run on the same executor, which waits for this one.
        """
        try:
            session = self._session = self._executor.open(self._plan, self._results)
        except WorkerStartError:
            self._perform(self._machine.start())
            self._give_up()
            self._record_end(0.0)
            self._log.run_ended()
            raise
        try:
            self._data.started_s = started_s = session.now()
            self._deadline_s = None if self._timeout_s is None else started_s + self._timeout_s
            self._interrupts.notify(session.interrupt)
            self._perform(self._machine.start())
            try:
                self._loop()
            except BaseException:
                self._give_up()
                raise
            finally:
                self._record_end(session.now() - started_s)
        finally:
            self._tell_end(session.close())

    def _tell_end(self, warnings: Iterable[tuple[str | None, str]]) -> None:
        if os.getpid() == self._pid:  # where a handler has forked, it goes on
            for task, text in warnings:
                self._log.warning(task, text)
            self._log.run_ended()

    def _loop(self) -> None:
        machine, session = self._machine, self._session
        while not machine.finished:
            if self._interrupts.held:
                self._hand_on_signals()
            if not (failpoints.armed and failpoints.hit("coordinator.stops")):
                self._take_in_stops()  # before anything new starts
            if not machine.finished:
                self._dispatch()
                self._take_in(session.wait(self._wait_limit_s()))
                self._check()

    def _hand_on_signals(self) -> None:
        self._interrupts.hand_on()
        if os.getpid() != self._pid:  # nothing more may begin here: it goes on there
            name = self._plan.pipeline_name
            raise ExecutorClosedError(f"the run of pipeline {name!r} goes on in the parent process, not after fork")

    def _dispatch(self) -> None:
        """Hand ready attempts to the executor, as many as it has room for."""
        if not self._machine.ready:
            return  # not even asked for room: that would be taken as hunger
        room = self._session.room()
        if room <= 0:
            return
        self._session.submit(self._machine.take(room))
        self._check()
        if not self._logged_start:
            self._logged_start = True
            self._log.run_started(self._executor.name)

    def _wait_limit_s(self) -> float | None:
        """How long to wait for the executor; None if only it can bring news."""
        if self._stop_wanted():
            return 0.0
        retry_s, deadline_s = self._timers.next_due_s(), self._run_deadline_s()
        if retry_s is None and deadline_s is None:
            return None
        due_s = min(each for each in (retry_s, deadline_s) if each is not None)
        return max(0.0, due_s - self._session.now())

    def _run_deadline_s(self) -> float | None:
        return None if self._cancel_sent else self._deadline_s

    def _take_in(self, turn: Turn) -> None:
        """Tell the machine what happened, what is due and what was asked for."""
        if turn.ended:
            if failpoints.armed:
                failpoints.hit("coordinator.ends")
            self._take_in_ends(turn.ended)
        for task, attempt in turn.returned:
            self._perform(self._machine.untake(task, attempt))
        if turn.overdue:
            self._handle([AttemptOverdue(task, attempt) for task, attempt in turn.overdue])
        if turn.over_memory:
            self._handle([AttemptOverMemory(task, attempt) for task, attempt in turn.over_memory])
        for text in turn.warnings:
            self._log.warning(None, text)
        if self._timers:
            self._take_in_timers()

    def _take_in_timers(self) -> None:
        if failpoints.armed:
            failpoints.hit("coordinator.timers")
        is_running = self._session.is_running
        due = self._timers.pop_due(self._session.now())
        self._handle([RetryDue(task, attempt, is_running(task, attempt)) for task, attempt in due])

    def _take_in_ends(self, ended: Sequence[tuple[int, int, Outcome]]) -> None:
        succeeded: list[tuple[int, int]] = []
        events: list[Event] = []
        attempts, phases, keep = self._machine.attempts, self._machine.phases, self._results.keep
        for task, attempt, outcome in ended:
            if attempts[task] != attempt or phases[task] not in UNDER_WAY:
                outcome.release()  # stale: the task has gone on without it
                continue
            if outcome.status == OutcomeStatus.SUCCESS:
                keep(task, outcome)
                succeeded.append((task, attempt))
            else:
                events.append(self._event_of(task, attempt, outcome))
        if succeeded:
            self._perform(self._machine.succeeded(succeeded))
        if events:
            self._handle(events)

    def _event_of(self, task: int, attempt: int, outcome: Outcome) -> Event:
        """Record an attempt that did not succeed, and say what that is to the machine."""
        try:
            event = self._judge(task, attempt, outcome)
        except Exception as error:  # noqa: BLE001 - what one attempt sent home must not end the run of all others
            text = f"task {self._dag.names[task]!r}, attempt {attempt}: its outcome cannot be read: {error}"
            outcome = LocalOutcome(OutcomeStatus.FAILED, failure=Failure.own(OrchestrationError(text)))
            event = AttemptFailed(task, attempt, retryable=False)
        self._results.keep(task, outcome)
        return event

    def _judge(self, task: int, attempt: int, outcome: Outcome) -> Event:
        failure = outcome.failure
        assert failure is not None  # it did not succeed
        match outcome.status:
            case OutcomeStatus.SKIPPED:
                self._data.notes[task] = failure.message or "no reason was given"
                return AttemptSkipped(task, attempt)
            case OutcomeStatus.CANCELLED if self._cancel_sent or self._interrupts.count:
                self._take_in_stops()  # Ctrl-C ended an inline task before anybody else heard of it
                return AttemptCancelled(task, attempt)
            case OutcomeStatus.TIMED_OUT | OutcomeStatus.LOST | OutcomeStatus.OUT_OF_MEMORY:
                retryable = self._own_error_is_retryable(task, attempt, failure)
            case _:
                retryable = outcome.retryable
                self._data.notes[task] = failure.note
        delay_s, refusal = outcome.retry_delay_s, "" if retryable else self._why_no_retry(task, outcome, failure)
        return AttemptFailed(task, attempt, retryable, delay_s, self._random.random(), outcome.abandoned, refusal)

    def _why_no_retry(self, task: int, outcome: Outcome, failure: Failure) -> str:
        judged = failure.kind == "error" and failure.error_type != _FAIL_TASK
        asked = judged or outcome.status != OutcomeStatus.FAILED  # an attempt of another status was stopped, or lost
        return why_none(self._plan.tasks[task].retry_on, failure.error_type, asked=asked)

    def _own_error_is_retryable(self, task: int, attempt: int, failure: Failure) -> bool:
        """Attempts that were stopped or lost have no worker left to ask ``retry_on``; it is asked here."""
        error = failure.to_error(task=self._dag.names[task], attempt=attempt)
        retryable, self._data.notes[task] = wants_retry(self._plan.tasks[task].retry_on, error)
        return retryable

    def _stop_wanted(self) -> int:
        """0: go on. 1: stop with grace. 2: stop at once. Only what has not been acted on yet."""
        if not self._cancel_asked and not self._interrupts.count:
            return 0  # as a rule, twice at every turn
        asked = max(int(self._cancel_asked), min(self._interrupts.count, 2))
        done = 2 if self._kill_sent else int(self._cancel_sent)
        return asked if asked > done else 0

    def _take_in_stops(self) -> None:
        wanted, deadline_s = self._stop_wanted(), self._run_deadline_s()
        if wanted and not self._cancel_sent:
            self._stop("cancel() was called" if self._cancel_asked else f"{self._interrupts.first_name} arrived")
        elif deadline_s is not None and self._session.now() >= deadline_s:
            self._stop(f"its timeout of {self._timeout_s:g} s is over")
        if wanted == 2 and not self._kill_sent:
            self._kill_sent = True
            if not (failpoints.armed and failpoints.hit("coordinator.second_signal")):
                self._session.kill()

    def _stop(self, why: str) -> None:
        self._cancel_sent = True
        self._data.stop_cause = why
        self._log.stopping(why)
        self._handle([CancelRequested()])

    def _handle(self, events: Iterable[Event]) -> None:
        for event in events:
            self._perform(self._machine.handle([event]))
            self._check()

    @property
    def machine(self) -> RunMachine:
        """The state of the run; to be read only."""
        return self._machine

    def _check(self) -> None:
        if self._after_event is not None:
            self._after_event(self._machine)

    def _perform(self, commands: Iterable[Command]) -> None:
        for command in commands:
            match command:
                case StopAttempt(task, attempt, reason):
                    if not self._given_up:
                        self._session.stop(task, attempt, reason)
                case ScheduleRetry():
                    self._schedule_retry(command)
                case FinishTask():
                    self._finish_task(command)
                case ReleaseResult(task):
                    self._results.release(task)
                case FinishRun(state):
                    self._data.status = state
                case _:
                    assert_never(command)

    def _schedule_retry(self, command: ScheduleRetry) -> None:
        self._eventful.add(command.task)
        self._timers.add(self._session.now() + command.delay_s, command.task, command.attempt)
        failure = self._failure_of(command.task)
        name = self._dag.names[command.task]
        self._log.retry(name, failure.describe(name, command.attempt), command.delay_s)
        failure.drop_frames()

    def _failure_of(self, task: int) -> Failure:
        outcome = self._data.outcomes[task]
        assert outcome is not None  # an attempt has just failed
        failure = outcome.failure
        assert failure is not None
        return failure

    def _finish_task(self, command: FinishTask) -> None:
        task, name = command.task, self._dag.names[command.task]
        self._eventful.add(task)
        if command.cause is not None:
            self._data.skip_causes[task] = command.cause
        if command.state is TaskState.FAILED:
            failure = self._failure_of(task)
            text = failure.describe(name, self._machine.attempt(task))
            self._log.failed(name, text, self._data.notes.get(task) or command.note, failure.traceback_text)
        elif command.cause is SkipCause.UPSTREAM_FAILED:
            self._log.skipped_by_failure(name, self._culprit_of(task))
        elif command.cause is SkipCause.RAISED:
            self._log.skipped_itself(name, self._data.notes[task])

    def _culprit_of(self, task: int) -> str:
        """Which direct upstream to name when a task is skipped because of a failure."""
        states = {upstream: self._machine.task_state(upstream) for upstream in self._dag.upstreams[task]}
        failed = [upstream for upstream, state in states.items() if state is TaskState.FAILED]
        skipped = [upstream for upstream, state in states.items() if state is TaskState.SKIPPED]
        culprit = (failed or skipped)[0]
        return f"{self._dag.names[culprit]!r} {states[culprit]}"

    def _give_up(self) -> None:
        """Something is wrong that is no attempt's fault: end the run on paper; closing the session ends the rest."""
        self._given_up = self._cancel_sent = True
        self._data.stop_cause = self._data.stop_cause or "it could not go on"
        self._handle([CancelRequested()])
        machine = self._machine
        under_way = [(task, machine.attempts[task]) for task, phase in enumerate(machine.phases) if phase in UNDER_WAY]
        self._handle(AttemptCancelled(task, attempt) for task, attempt in under_way)

    def _record_end(self, duration_s: float) -> None:
        machine, data = self._machine, self._data
        data.states = [phase.task_state for phase in machine.phases]
        data.status = machine.state
        data.duration_s = duration_s
        data.stories = {task: machine.story(task) for task in self._eventful}
