"""What the executors of this process share: running one attempt here, with the values as they are.

What lives here: the context over live objects, the measured call, the outcome of an attempt that took too long. What
may not: threads, waiting, signals.
"""

from __future__ import annotations

import os
import sys
import time

from ..attempt import LocalOutcome
from ..context import Context
from ..errors import TaskTimeoutError
from ..interfaces import AttemptStats, OutcomeStatus
from ..payload.failure import Failure
from ..user_code import Job, run_user_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..errors import OrchestrationError
    from ..interfaces import Inputs, Plan


class LiveSource:
    """A context's values, straight from the run: consumers share them with the producer and each other."""

    def __init__(self, plan: Plan, inputs: Inputs, task: int, attempt: int) -> None:
        self._plan = plan
        self._inputs = inputs
        self._task = task
        self._attempt = attempt

    def run_names(self) -> tuple[str, ...]:
        return tuple(self._plan.context)

    def value(self, name: str) -> object:
        if name in self._plan.context:
            return self._plan.context[name]
        return self._inputs.outcome(self._task, self._attempt, name).load()

    def upstream(self) -> Mapping[str, str]:
        return dict(self._inputs.states(self._task, self._attempt))

    def errors(self) -> Mapping[str, OrchestrationError]:
        return {
            name: failure.to_error(task=name, attempt=attempt)
            for name, attempt, failure in self._inputs.failures(self._task, self._attempt)
        }


def run_here(plan: Plan, inputs: Inputs, task: int, attempt: int) -> LocalOutcome:
    """Run one attempt in the calling thread, to its end."""
    definition = plan.tasks[task]
    context = None
    if plan.dag.takes_context[task]:
        context = Context(
            LiveSource(plan, inputs, task, attempt),
            run_id=plan.run_id,
            pipeline_name=plan.pipeline_name,
            task_name=definition.name,
            attempt=attempt,
        )
    job = Job(definition.action, definition.retry_on, None, context is not None)
    started_s, cpu_s = time.monotonic(), time.thread_time()
    ended = run_user_code(job, definition.name, definition.args, definition.kwargs, context)
    wall_s = time.monotonic() - started_s
    return LocalOutcome.of(ended, _stats(started_s, wall_s, time.thread_time() - cpu_s))


def _stats(started_s: float, wall_s: float, cpu_s: float) -> AttemptStats:
    return AttemptStats(
        pid=os.getpid(),
        started_at_s=started_s,
        wall_s=wall_s,
        cpu_s=cpu_s,
        peak_memory_bytes=_peak_memory_bytes(),
    )


def _peak_memory_bytes() -> int | None:
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows has no such module
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return getrusage(RUSAGE_SELF).ru_maxrss * unit


def timed_out(
    plan: Plan,
    task: int,
    attempt: int,
    advice: str,
    *,
    stack: str = "",
    stats: AttemptStats | None = None,
    abandoned: bool = False,
) -> LocalOutcome:
    """The outcome of an attempt that ran longer than its time-out.

    Args:
        advice: What became of its code; ends the message.
    """
    definition = plan.tasks[task]
    limit_s = plan.timeouts[task] or 0.0
    error = TaskTimeoutError(
        f"task {definition.name!r}, attempt {attempt}: ran longer than its timeout of {limit_s:g} s; {advice}",
        task=definition.name,
        attempt=attempt,
        timeout_s=limit_s,
        stack=stack,
    )
    return LocalOutcome(OutcomeStatus.TIMED_OUT, failure=Failure.own(error), stats=stats, abandoned=abandoned)
