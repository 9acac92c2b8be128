"""One run over leased workers: the pool's events as turns and outcomes.

What lives here: that translation. What may not: the executor's options (``process``), what a call consists of
(``process_calls``), decisions (``machine``).
"""

from __future__ import annotations

import time
from itertools import count

from .. import calls, failpoints
from ..attempt import LocalOutcome
from ..calls import Request
from ..errors import MemoryLimitExceededError, RunCancelledError, TaskTimeoutError, WorkerLostError, WorkerStartError
from ..interfaces import AttemptStats, OutcomeStatus, Turn
from ..machine.protocol import StopReason
from ..payload.failure import Failure
from ..pool.events import CallEnded, CallLost, CallOverdue, CallOverMemory, CallReturned, CallStopped, MemoryShort
from .process_calls import CallData, Unsendable
from .process_outcome import ProcessOutcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import assert_never

    from ..errors import OrchestrationError
    from ..interfaces import Inputs, Outcome, Plan
    from ..payload.segments import Segment
    from ..payload.store import Store
    from ..pool.process_pool import ProcessPool
else:
    from ..light_typing import assert_never

# A call id names run, attempt and task, so that nothing has to be looked up when an outcome comes in. The run's number
# only tells late packets of an earlier run from those of this one; it may wrap.
_TASK_BITS = 32
_ATTEMPT_BITS = 24
_RUN_NUMBERS = 256
_TASK_MASK = (1 << _TASK_BITS) - 1
_ATTEMPT_MASK = (1 << _ATTEMPT_BITS) - 1
_run_numbers = count(1)


class ProcessSession:
    """One run over leased workers; see :class:`~..interfaces.Session`."""

    def __init__(
        self,
        plan: Plan,
        inputs: Inputs,
        pool: ProcessPool,
        store: Store,
        env: Mapping[str, str],
        on_close: Callable[[], object],
    ) -> None:
        """
        Raises:
            ExecutorClosedError: The pool was closed, or belongs to another process.
            WorkerStartError: There is no place for what all workers need to know, or nothing to listen to them by.
        """
        self._plan = plan
        self._on_close = on_close
        self._store = store
        try:
            self._data = CallData(plan, inputs, env, store)
        except Unsendable as error:  # the run's own facts: the environment is long, and there is no place for it
            raise WorkerStartError(f"workers cannot be told of the run: {error}") from error
        self._tag = (next(_run_numbers) % _RUN_NUMBERS) << (_TASK_BITS + _ATTEMPT_BITS)
        self._ended: list[tuple[int, int, Outcome]] = []
        self._stops: dict[tuple[int, int], int] = {}
        self._excesses: dict[tuple[int, int], CallOverMemory] = {}
        self._lease = pool.lease(self._answer, max_workers=plan.max_workers, ended_type=ProcessOutcome)

    def now(self) -> float:
        return time.monotonic()

    def room(self) -> int:
        return self._lease.room()

    def submit(self, attempts: Sequence[tuple[int, int]]) -> None:
        timeouts, pack, send, tag = self._plan.timeouts, self._data.pack, self._lease.submit, self._tag
        limits = self._plan.memory_limits
        for task, attempt in attempts:
            is_limited = limits and task in limits
            try:
                body = pack(task, attempt, calls.LIMITED) if is_limited else pack(task, attempt)
            except Unsendable as error:
                self._ended.append((task, attempt, LocalOutcome(OutcomeStatus.FAILED, failure=error.failure)))
                continue
            if is_limited:
                self._lease.submit_limited(self._call_id(task, attempt), body, timeouts[task], limits[task])
            else:
                send(tag | (attempt << _TASK_BITS) | task, body, timeouts[task])

    def _call_id(self, task: int, attempt: int) -> int:
        return self._tag | (attempt << _TASK_BITS) | task

    def _answer(self, call_id: int, request: bytes) -> bytes | Segment:
        if not call_id and request[:1] != Request.TOKEN:  # an initializer may need code; no task asks for anything else
            raise LookupError("no task asks")
        return self._data.answer(*_attempt_of(call_id), request)

    def stop(self, task: int, attempt: int, reason: int) -> None:
        self._stops[task, attempt] = reason
        self._lease.stop(self._call_id(task, attempt), dump=reason != StopReason.CANCEL)

    def kill(self) -> None:
        self._lease.kill_all()

    def wait(self, timeout_s: float | None) -> Turn:
        ended, self._ended = self._ended, []
        returned: list[tuple[int, int]] = []
        overdue: list[tuple[int, int]] = []
        over_memory: list[tuple[int, int]] = []
        warnings: list[str] = []
        data, pins, external, end = self._data, self._data.pins, self._data.external, ended.append
        for event in self._lease.wait(0.0 if ended else timeout_s):
            call_id = event.call_id
            task, attempt = call_id & _TASK_MASK, call_id >> _TASK_BITS & _ATTEMPT_MASK
            if type(event) is ProcessOutcome:
                event.pins = pins
                end((task, attempt, event))
                if external:
                    data.forget(task, attempt)
                continue
            match event:
                case CallEnded():
                    raise AssertionError("this lease makes ProcessOutcomes of them")
                case CallReturned():
                    returned.append((task, attempt))
                case CallOverdue():
                    overdue.append((task, attempt))
                    continue
                case CallOverMemory():
                    self._excesses[task, attempt] = event
                    over_memory.append((task, attempt))
                    continue
                case MemoryShort():
                    warnings.append(event.text)
                    continue
                case CallLost():
                    ended.append((task, attempt, self._lost(task, attempt, event)))
                case CallStopped():
                    ended.append((task, attempt, self._stopped(task, attempt, event)))
                case _:
                    assert_never(event)
            data.forget(task, attempt)
        returned.reverse()  # each is put before those that are ready, so the first one last
        return Turn(ended, returned, overdue, over_memory, warnings)

    def _lost(self, task: int, attempt: int, event: CallLost) -> Outcome:
        name = self._plan.tasks[task].name
        stats = AttemptStats(event.pid, wall_s=event.wall_s)
        if event.undeliverable:
            failure = Failure.payload("result_transfer", "result", event.description)
            return LocalOutcome(OutcomeStatus.FAILED, failure=failure, stats=stats)
        error = WorkerLostError(
            f"task {name!r}, attempt {attempt}: its worker (pid {event.pid}) {event.description}",
            task=name,
            attempt=attempt,
            pid=event.pid,
            exit_code=event.exit_code,
            signal=event.signal,
            stack=event.stack,
        )
        return LocalOutcome(OutcomeStatus.LOST, failure=Failure.own(error), stats=stats, abandoned=event.undead)

    def _stopped(self, task: int, attempt: int, event: CallStopped) -> Outcome:
        definition = self._plan.tasks[task]
        where = f"task {definition.name!r}, attempt {attempt}"
        error: OrchestrationError
        reason = self._stops.get((task, attempt))
        if reason == StopReason.MEMORY:
            return self._out_of_memory(task, attempt, event)
        if reason == StopReason.TIMEOUT:
            limit_s = self._plan.timeouts[task] or 0.0
            text = f"{where}: ran longer than its timeout of {limit_s:g} s and {_fate(event)}"
            error = TaskTimeoutError(text, task=definition.name, attempt=attempt, timeout_s=limit_s, stack=event.stack)
            return _outcome_of(OutcomeStatus.TIMED_OUT, error, event)
        error = RunCancelledError(f"{where}: still ran when the run was stopped, and {_fate(event)}")
        return _outcome_of(OutcomeStatus.CANCELLED, error, event)

    def _out_of_memory(self, task: int, attempt: int, event: CallStopped) -> Outcome:
        name, excess = self._plan.tasks[task].name, self._excesses[task, attempt]
        text = (
            f"task {name!r}, attempt {attempt}: used {_size(excess.used_bytes)} of private memory (its "
            f"memory_limit is {_size(excess.limit_bytes)}) and {_fate(event)}"
        )
        if len(excess.processes) > 1:
            shares = (f"{command} (pid {pid}) {_size(size)}" for pid, command, size in excess.processes)
            text += f"; its processes: {', '.join(shares)}"
        error = MemoryLimitExceededError(
            text,
            task=name,
            attempt=attempt,
            limit_bytes=excess.limit_bytes,
            used_bytes=excess.used_bytes,
            processes=excess.processes,
            stack=event.stack,
        )
        return _outcome_of(OutcomeStatus.OUT_OF_MEMORY, error, event, excess.peak_bytes)

    def wake(self) -> None:
        self._lease.wake()

    def interrupt(self, *, stop: bool) -> bool:
        self._lease.wake()
        return False

    def is_running(self, task: int, attempt: int) -> bool:
        return self._lease.is_undead(self._call_id(task, attempt))

    def close(self) -> list[tuple[str | None, str]]:
        try:
            self._lease.close()
        finally:
            self._on_close()
        self._data.close()
        self._store.tidy()
        overdraft = self._store.overdraft()
        if failpoints.armed and failpoints.hit("process_session.warnings"):
            return []
        return [*self._data.warnings(), *([(None, overdraft)] if overdraft else [])]


def _fate(event: CallStopped) -> str:
    """What has become of a call's worker, e.g. ``"was ended (worker pid 4711)"``."""
    if event.undead:
        return f"its worker (pid {event.pid}) was killed and does not end: the kernel keeps it"
    return f"was ended (worker pid {event.pid})"


def _outcome_of(status: int, error: OrchestrationError, event: CallStopped, peak_bytes: int | None = None) -> Outcome:
    stats = AttemptStats(event.pid, wall_s=event.wall_s, peak_memory_bytes=peak_bytes)
    return LocalOutcome(status, failure=Failure.own(error), stats=stats, abandoned=event.undead)


def _size(size: int) -> str:
    return f"{size / (1 << 20):,.1f} MiB"


def _attempt_of(call_id: int) -> tuple[int, int]:
    return call_id & _TASK_MASK, (call_id >> _TASK_BITS) & _ATTEMPT_MASK
