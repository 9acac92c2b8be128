"""Attempts in worker processes, over our own pool.

What lives here: the executor's options and the translation of the pool's events into outcomes. What may not: processes
and sockets (``pool``), what a call consists of (``process_calls``), decisions (``machine``).
"""

from __future__ import annotations

import sys
import time
from itertools import count
from typing import assert_never

from .. import options
from ..attempt import LocalOutcome
from ..errors import DefinitionError, RunCancelledError, TaskTimeoutError, WorkerLostError
from ..interfaces import AttemptStats, OutcomeStatus, Turn
from ..machine.protocol import StopReason
from ..payload import codec, references
from ..payload.failure import Failure
from ..pool import cpu
from ..pool.events import CallEnded, CallLost, CallOverdue, CallReturned, CallStopped
from ..pool.process_pool import PoolOptions, ProcessPool
from .process_calls import CallData, Unsendable
from .process_outcome import ProcessOutcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Self

    from ..errors import OrchestrationError
    from ..interfaces import Inputs, Outcome, Plan
    from ..payload.segments import Segment

_RUNNER = "dremioframe.orchestration.worker_attempt:AttemptRunner"
_DEFAULT_GRACE_S = 2.0

# A call id names run, attempt and task, so that nothing has to be looked up when an outcome comes in. The run's number
# only tells late packets of an earlier run from those of this one; it may wrap.
_TASK_BITS = 32
_ATTEMPT_BITS = 24
_RUN_NUMBERS = 256
_TASK_MASK = (1 << _TASK_BITS) - 1
_ATTEMPT_MASK = (1 << _ATTEMPT_BITS) - 1
_run_numbers = count(1)


class ProcessExecutor:
    """Runs tasks in worker processes that stay warm from run to run.

    Args:
        max_workers: Most tasks at once; None takes the CPUs this process may use (affinity and cgroup quota counted).
        preload: Modules imported once, before workers are forked; one that leaves threads running is refused by name.
        initializer: Called once in each new worker, with ``initargs``.
        initargs: Arguments of ``initializer``.
        max_tasks_per_worker: A worker is replaced after so many attempts; None means never.
        kill_grace_s: Seconds between SIGTERM and SIGKILL when an attempt is stopped.
        env: Extra environment variables of the workers.

    Raises:
        DefinitionError: An option makes no sense, or this is not Linux.

    Example::

        with ProcessExecutor(max_workers=8, preload=["pandas"]) as executor:
            pipeline.run(executor=executor)
            pipeline.run(executor=executor)     # same workers
    """

    name = "process"

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        preload: Sequence[str] = (),
        initializer: Callable[..., object] | None = None,
        initargs: Sequence[object] = (),
        max_tasks_per_worker: int | None = None,
        kill_grace_s: float = _DEFAULT_GRACE_S,
        env: Mapping[str, str] | None = None,
    ) -> None:
        if sys.platform != "linux":
            raise DefinitionError(f"executor='process' is not there yet on {sys.platform}; use 'thread' or 'inline'")
        usable = cpu.usable_cpus()
        self.max_workers = options.at_least_one("max_workers", max_workers) or usable
        threads = max(1, usable // self.max_workers)
        self._env = {**cpu.thread_limit_env(threads), **_checked_env(env)}
        self._pool = ProcessPool(
            PoolOptions(
                size=self.max_workers,
                preload=_checked_preload(preload),
                initializer=_packed_initializer(initializer, tuple(initargs)),
                max_calls_per_worker=options.at_least_one("max_tasks_per_worker", max_tasks_per_worker),
                kill_grace_s=options.grace("kill_grace_s", kill_grace_s),
                env=self._env,
                threads_per_worker=threads,
                runner=_RUNNER,
            )
        )

    def open(self, plan: Plan, inputs: Inputs) -> ProcessSession:
        """Begin one run; see :class:`~..interfaces.Executor`."""
        return ProcessSession(plan, inputs, self._pool, self._env)

    def close(self) -> None:
        """End all workers. Idempotent; runs that go on lose theirs."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _checked_preload(preload: object) -> tuple[str, ...]:
    if isinstance(preload, tuple | list) and all(isinstance(name, str) for name in preload):
        return tuple(preload)
    raise DefinitionError(f"preload must be a list or tuple of module names, not {preload!r}")


def _checked_env(env: Mapping[str, str] | None) -> dict[str, str]:
    given: dict[Any, Any] = dict(env or {})
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise DefinitionError(f"env must map text to text, not {name!r} to {value!r}")
    return given


def _packed_initializer(initializer: Callable[..., object] | None, initargs: tuple[object, ...]) -> bytes | None:
    if initializer is None:
        return None
    if not callable(initializer):
        raise DefinitionError(f"initializer must be callable, not {initializer!r}")
    from functools import partial

    try:
        return references.pack_code(partial(initializer, *initargs))
    except codec.EncodeError as error:
        raise DefinitionError(f"the initializer or its arguments cannot be pickled: {error.reason}") from error


class ProcessSession:
    """One run over leased workers; see :class:`~..interfaces.Session`."""

    def __init__(self, plan: Plan, inputs: Inputs, pool: ProcessPool, env: Mapping[str, str]) -> None:
        self._plan = plan
        self._data = CallData(plan, inputs, env)
        self._tag = (next(_run_numbers) % _RUN_NUMBERS) << (_TASK_BITS + _ATTEMPT_BITS)
        self._ended: list[tuple[int, int, Outcome]] = []
        self._stops: dict[tuple[int, int], int] = {}
        self._lease = pool.lease(self._answer, max_workers=plan.max_workers)

    def now(self) -> float:
        return time.monotonic()

    def room(self) -> int:
        return self._lease.room()

    def submit(self, attempts: Sequence[tuple[int, int]]) -> None:
        tasks, pack, send, tag = self._plan.tasks, self._data.pack, self._lease.submit, self._tag
        for task, attempt in attempts:
            try:
                parts = pack(task, attempt)
            except Unsendable as error:
                self._ended.append((task, attempt, LocalOutcome(OutcomeStatus.FAILED, failure=error.failure)))
                continue
            send(tag | (attempt << _TASK_BITS) | task, parts, tasks[task].timeout)

    def _call_id(self, task: int, attempt: int) -> int:
        return self._tag | (attempt << _TASK_BITS) | task

    def _answer(self, call_id: int, request: bytes) -> bytes | Segment:
        return self._data.answer(*_attempt_of(call_id), request)

    def stop(self, task: int, attempt: int, reason: int) -> None:
        self._stops[task, attempt] = reason
        self._lease.stop(self._call_id(task, attempt), dump=reason == StopReason.TIMEOUT)

    def kill(self) -> None:
        self._lease.kill_all()

    def wait(self, timeout_s: float | None) -> Turn:
        ended, self._ended = self._ended, []
        returned: list[tuple[int, int]] = []
        overdue: list[tuple[int, int]] = []
        for event in self._lease.wait(0.0 if ended else timeout_s):
            task, attempt = _attempt_of(event.call_id)
            match event:
                case CallEnded():
                    ended.append((task, attempt, ProcessOutcome(event, self._data.pins)))
                case CallReturned():
                    returned.append((task, attempt))
                case CallOverdue():
                    overdue.append((task, attempt))
                    continue
                case CallLost():
                    ended.append((task, attempt, self._lost(task, attempt, event)))
                case CallStopped():
                    ended.append((task, attempt, self._stopped(task, attempt, event)))
                case _:
                    assert_never(event)
            self._data.forget(task, attempt)
        return Turn(ended, returned, overdue)

    def _lost(self, task: int, attempt: int, event: CallLost) -> Outcome:
        name = self._plan.tasks[task].name
        error = WorkerLostError(
            f"task {name!r}, attempt {attempt}: its worker (pid {event.pid}) {event.description}",
            task=name,
            attempt=attempt,
            pid=event.pid,
            exit_code=event.exit_code,
            signal=event.signal,
            stack=event.stack,
        )
        return LocalOutcome(OutcomeStatus.LOST, failure=Failure.own(error), stats=AttemptStats(event.pid))

    def _stopped(self, task: int, attempt: int, event: CallStopped) -> Outcome:
        definition = self._plan.tasks[task]
        where = f"task {definition.name!r}, attempt {attempt}"
        error: OrchestrationError
        if self._stops.get((task, attempt)) == StopReason.TIMEOUT:
            limit_s = definition.timeout or 0.0
            text = f"{where}: ran longer than its timeout of {limit_s:g} s and was ended (worker pid {event.pid})"
            error = TaskTimeoutError(text, task=definition.name, attempt=attempt, timeout_s=limit_s, stack=event.stack)
            return LocalOutcome(OutcomeStatus.TIMED_OUT, failure=Failure.own(error), stats=AttemptStats(event.pid))
        error = RunCancelledError(f"{where}: ended because the run was stopped (worker pid {event.pid})")
        return LocalOutcome(OutcomeStatus.CANCELLED, failure=Failure.own(error), stats=AttemptStats(event.pid))

    def wake(self) -> None:
        self._lease.wake()

    def interrupt(self) -> bool:
        self._lease.wake()
        return False

    def is_running(self, task: int, attempt: int) -> bool:
        return False

    def started_at(self, task: int, attempt: int) -> float | None:
        return self._lease.started_at(self._call_id(task, attempt))

    def close(self) -> list[str]:
        self._lease.close()
        self._data.close()
        return []


def _attempt_of(call_id: int) -> tuple[int, int]:
    return call_id & _TASK_MASK, (call_id >> _TASK_BITS) & _ATTEMPT_MASK
