"""Attempts one after the other in the thread that called ``run()``.

Nothing can be interrupted: an attempt over its time fails when it returns, a cancelled run ends after the attempt that
runs, Ctrl-C raises in the task itself.
"""

from __future__ import annotations

import time
from queue import Empty, SimpleQueue

from ..attempt import LocalOutcome
from ..errors import RunCancelledError
from ..interfaces import OutcomeStatus, Turn
from ..payload.failure import Failure
from ..waiting import LOOK_UP_S
from .local import run_here, timed_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..interfaces import Inputs, Outcome, Plan


class InlineExecutor:
    """Runs every task in the thread that called ``run()``, one after the other. For debugging and for tiny pipelines.

    Example::

        pipeline.run(executor="inline")
    """

    name = "inline"

    def open(self, plan: Plan, inputs: Inputs) -> InlineSession:
        """Begin one run; see :class:`~..interfaces.Executor`."""
        return InlineSession(plan, inputs)

    def close(self) -> None:
        """Nothing to end."""


class InlineSession:
    """One run; see :class:`~..interfaces.Session`."""

    def __init__(self, plan: Plan, inputs: Inputs) -> None:
        self._plan = plan
        self._inputs = inputs
        self._next: tuple[int, int] | None = None
        self._wakes: SimpleQueue[None] = SimpleQueue()  # put() is safe in a signal handler; Event.set() is not
        self._returned: list[tuple[int, int]] = []
        self._in_user_code = False
        self._interrupted = False

    def now(self) -> float:
        return time.monotonic()

    def room(self) -> int:
        return 0 if self._next is not None else 1

    def submit(self, attempts: Sequence[tuple[int, int]]) -> None:
        (self._next,) = attempts

    def stop(self, task: int, attempt: int, reason: int) -> None:
        """Only an attempt that has not begun can be stopped here; it then never begins."""
        if self._next == (task, attempt):
            self._next = None
            self._returned.append((task, attempt))

    def kill(self) -> None:
        """Nothing runs while this can be called."""

    def wait(self, timeout_s: float | None) -> Turn:
        if self._returned:
            returned, self._returned = self._returned, []
            return Turn([], returned, [])
        if self._next is None:
            self._sleep(timeout_s)
            return Turn([], [], [])
        if timeout_s is not None and timeout_s <= 0.0:
            # The coordinator has something to do first; it may be a cancel, and this has not begun yet.
            return Turn([], [], [])
        task, attempt = self._next
        outcome = self._run(task, attempt)
        self._next = None
        return Turn([(task, attempt, outcome)], [], [])

    def _run(self, task: int, attempt: int) -> Outcome:
        limit_s = self._plan.timeouts[task]
        try:
            self._in_user_code = True
            outcome = run_here(self._plan, self._inputs, task, attempt)
        except KeyboardInterrupt:  # Ctrl-C while it was made out how the attempt had ended
            if not self._interrupted:
                raise
            name = self._plan.tasks[task].name
            error = RunCancelledError(f"task {name!r}, attempt {attempt}: ended because the run was stopped")
            return LocalOutcome(OutcomeStatus.CANCELLED, failure=Failure.own(error))
        finally:
            self._in_user_code = False
        if self._interrupted:
            return LocalOutcome(OutcomeStatus.CANCELLED, failure=outcome.failure, stats=outcome.stats)
        stats = outcome.stats
        if limit_s is None or stats is None or (stats.wall_s or 0.0) <= limit_s:
            return outcome
        return timed_out(self._plan, task, attempt, "inline tasks cannot be interrupted", stats=outcome.stats)

    def _sleep(self, timeout_s: float | None) -> None:
        try:
            self._wakes.get(timeout=LOOK_UP_S if timeout_s is None else min(timeout_s, LOOK_UP_S))
        except Empty:
            pass  # whoever asked sees for himself whether his time is over

    def wake(self) -> None:
        self._wakes.put(None)

    def interrupt(self, *, stop: bool) -> bool:
        self.wake()
        self._interrupted |= stop and self._in_user_code
        return self._in_user_code

    def is_running(self, task: int, attempt: int) -> bool:
        return False

    def close(self) -> list[tuple[str | None, str]]:
        return []
