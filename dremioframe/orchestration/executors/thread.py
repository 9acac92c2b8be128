"""Attempts in threads of this process.

A thread cannot be killed. An attempt over its time fails on time, its slot gets a new thread, its late result is
dropped; a stopped run waits for the grace period and then leaves its threads behind (they are daemons).

Each thread takes jobs from one queue and puts what came of them into another; the session's owner is the only one that
looks at ``_running``, so there is no lock.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from queue import Empty, SimpleQueue

from .. import failpoints, options
from ..attempt import LocalOutcome
from ..errors import OrchestrationError, RunCancelledError, WorkerStartError
from ..interfaces import OutcomeStatus, Turn
from ..machine.protocol import StopReason
from ..payload.diagnosis import describe
from ..payload.failure import Failure
from ..waiting import LOOK_UP_S
from .local import run_here, timed_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from ..interfaces import Inputs, Outcome, Plan

_DEFAULT_GRACE_S = 2.0


class ThreadExecutor:
    """Runs tasks in threads of this process: they share their inputs, and a stuck one cannot be killed.

    Args:
        max_workers: Most tasks at once; None takes the pipeline's, and 1 if that has none.
        kill_grace_s: Seconds a stopped run waits for its threads before it leaves them behind.

    Example::

        pipeline.run(executor=ThreadExecutor(max_workers=8))
    """

    name = "thread"

    def __init__(self, max_workers: int | None = None, *, kill_grace_s: float = _DEFAULT_GRACE_S) -> None:
        self._max_workers = options.at_least_one("max_workers", max_workers)
        self._grace_s = options.grace("kill_grace_s", kill_grace_s)

    def open(self, plan: Plan, inputs: Inputs) -> ThreadSession:
        """Begin one run; see :class:`~..interfaces.Executor`."""
        sizes = [size for size in (plan.max_workers, self._max_workers) if size is not None]
        return ThreadSession(plan, inputs, min(sizes, default=1), self._grace_s)

    def close(self) -> None:
        """Nothing to end: threads belong to runs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _Running:
    """One attempt that was submitted and has not been reported.

    ``claims`` has one item. Who pops it, the thread that begins the attempt or the owner that takes it back, has it.
    """

    __slots__ = ("attempt", "claims", "give_up_s", "overdue_said", "started_s", "task", "thread")

    def __init__(self, task: int, attempt: int) -> None:
        self.task = task
        self.attempt = attempt
        self.thread: threading.Thread | None = None
        self.started_s: float | None = None
        self.overdue_said = False
        self.give_up_s: float | None = None
        self.claims = [True]

    def claim(self) -> bool:
        """Whether the attempt is the caller's to begin, or to take back."""
        try:
            return self.claims.pop()
        except IndexError:
            return False


class ThreadSession:
    """One run; see :class:`~..interfaces.Session`."""

    def __init__(self, plan: Plan, inputs: Inputs, size: int, grace_s: float) -> None:
        self._plan = plan
        self._inputs = inputs
        self._size = size
        self._grace_s = grace_s
        self._jobs: SimpleQueue[_Running | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[_Running, Outcome] | None] = SimpleQueue()
        self._running: dict[tuple[int, int], _Running] = {}
        self._abandoned: dict[tuple[int, int], _Running] = {}
        self._ended: list[tuple[int, int, Outcome]] = []
        self._returned: list[tuple[int, int]] = []
        self._threads = 0  # that serve a slot
        self._started = 0  # ever; one that lost its slot may not know it yet
        self._times_limited = any(limit_s is not None for limit_s in plan.timeouts)

    def now(self) -> float:
        return time.monotonic()

    def room(self) -> int:
        return self._size - len(self._running)

    def submit(self, attempts: Sequence[tuple[int, int]]) -> None:
        for task, attempt in attempts:
            running = self._running[task, attempt] = _Running(task, attempt)
            self._jobs.put(running)
            if self._threads < min(self._size, len(self._running)):
                self._start_thread()

    def _start_thread(self) -> None:
        """Start another thread; without it the others do its work.

        Raises:
            WorkerStartError: There is no other.
        """
        try:
            threading.Thread(target=self._serve, name="dremioframe-task", daemon=True).start()
        except RuntimeError as error:  # the system has none to spare, or the interpreter is ending
            if self._threads and not (failpoints.armed and failpoints.hit("thread.fewer")):
                return
            raise WorkerStartError(f"no thread could be started to run tasks in: {error}") from error
        self._threads += 1
        self._started += 1

    def _serve(self) -> None:
        """Life of one thread: attempts until there are no more, or until its slot was given to another."""
        while (running := self._jobs.get()) is not None:
            if not running.claim():
                continue
            running.thread = threading.current_thread()
            running.started_s = time.monotonic()
            if self._plan.timeouts[running.task] is not None:
                self._done.put(None)  # the owner may be waiting without a limit: it has a deadline now
            self._done.put((running, self._run(running)))
            if (running.task, running.attempt) in self._abandoned:
                return

    def stop(self, task: int, attempt: int, reason: int) -> None:
        running = self._running.get((task, attempt))
        if running is None or self._take_back(running):
            return
        if reason == StopReason.TIMEOUT:
            stack = _stack_of(running.thread)
            advice = "its thread cannot be stopped and may still be running; use executor='process' to end such tasks"
            self._abandon(running, timed_out(self._plan, task, attempt, advice, stack=stack, abandoned=True))
        else:
            running.give_up_s = self.now() + self._grace_s

    def kill(self) -> None:
        for running in list(self._running.values()):
            if not self._take_back(running):
                self._abandon(running, self._cancelled(running))

    def _take_back(self, running: _Running) -> bool:
        """Take an attempt back that no thread has begun."""
        if not running.claim():
            return False
        key = (running.task, running.attempt)
        del self._running[key]
        self._returned.append(key)
        return True

    def _run(self, running: _Running) -> Outcome:
        try:
            return run_here(self._plan, self._inputs, running.task, running.attempt)
        except BaseException as error:  # noqa: BLE001 - a bug of ours: without an outcome the run would wait for ever
            own = OrchestrationError(f"internal error around task code: {describe(error)}")
            return LocalOutcome(OutcomeStatus.FAILED, failure=Failure.own(own))

    def _abandon(self, running: _Running, outcome: Outcome) -> None:
        """Report the attempt as over although its thread goes on; another thread takes its slot."""
        key = (running.task, running.attempt)
        self._abandoned[key] = running
        del self._running[key]
        self._threads -= 1
        self._ended.append((*key, outcome))

    def _cancelled(self, running: _Running) -> Outcome:
        name = self._plan.tasks[running.task].name
        error = RunCancelledError(f"task {name!r}, attempt {running.attempt}: still running when the run was stopped")
        return LocalOutcome(OutcomeStatus.CANCELLED, failure=Failure.own(error), abandoned=True)

    def wait(self, timeout_s: float | None) -> Turn:
        if not self._ended and not self._returned:
            self._receive(self._limit(timeout_s))
        overdue = self._find_overdue() if self._times_limited else []
        self._give_up_late()
        ended, self._ended = self._ended, []
        returned, self._returned = self._returned, []
        return Turn(ended, returned, overdue)

    def _limit(self, timeout_s: float | None) -> float:
        """The caller's limit, or the next moment when a running attempt needs attention."""
        moments = [self.now() + min(LOOK_UP_S, LOOK_UP_S if timeout_s is None else timeout_s)]
        for running in self._running.values():
            if running.give_up_s is not None:
                moments.append(running.give_up_s)
            limit_s = self._plan.timeouts[running.task]
            if limit_s is not None and running.started_s is not None and not running.overdue_said:
                moments.append(running.started_s + limit_s)
        return max(0.0, min(moments) - self.now())

    def _receive(self, limit_s: float) -> None:
        try:
            item = self._done.get(timeout=limit_s)
            while True:
                if item is not None:
                    self._take_in(*item)
                item = self._done.get_nowait()
        except Empty:
            return  # all there is has been taken in

    def _take_in(self, running: _Running, outcome: Outcome) -> None:
        key = (running.task, running.attempt)
        if self._running.pop(key, None) is not None:
            self._ended.append((*key, outcome))
        else:
            del self._abandoned[key]  # late: its end was reported long ago

    def _find_overdue(self) -> list[tuple[int, int]]:
        now_s, overdue = self.now(), []
        for key, running in self._running.items():
            limit_s = self._plan.timeouts[running.task]
            if limit_s is None or running.started_s is None or running.overdue_said:
                continue
            if now_s >= running.started_s + limit_s:
                running.overdue_said = True
                overdue.append(key)
        return overdue

    def _give_up_late(self) -> None:
        now_s = self.now()
        for running in list(self._running.values()):
            if running.give_up_s is not None and now_s >= running.give_up_s:
                self._abandon(running, self._cancelled(running))

    def wake(self) -> None:
        self._done.put(None)

    def interrupt(self, *, stop: bool) -> bool:
        self.wake()
        return False

    def is_running(self, task: int, attempt: int) -> bool:
        running = self._abandoned.get((task, attempt))
        return running is not None and running.thread is not None and self._still_busy(running)

    def _still_busy(self, running: _Running) -> bool:
        self._receive(0.0)  # its late end may lie in the queue
        return (running.task, running.attempt) in self._abandoned

    def close(self) -> list[tuple[str | None, str]]:
        self._receive(0.0)
        for _ in range(self._started):
            self._jobs.put(None)
        names = [self._plan.tasks[running.task].name for running in self._abandoned.values()]
        return [
            (name, f"task {name!r}: its thread cannot be stopped and still runs; it is abandoned") for name in names
        ]


def _stack_of(thread: threading.Thread | None) -> str:
    # Documented by Python, underscore and all.
    frame = sys._current_frames().get(thread.ident or 0) if thread is not None else None  # noqa: SLF001
    return "" if frame is None else "".join(traceback.format_stack(frame))
