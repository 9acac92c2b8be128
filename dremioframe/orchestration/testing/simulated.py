"""An executor without processes on a clock without waiting.

Everything above it is the real thing: machine, coordinator, timers, results, records. A wait jumps to the next moment
at which something happens. What happens at the same moment happens in an order shaken by the seed, so that nobody comes
to rely on one; the same seed gives the same run.

What lives here: virtual time and simulated workers. What may not: knowledge of the DAG.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from random import Random

from .. import options
from ..attempt import LocalOutcome
from ..errors import (
    DefinitionError,
    MemoryLimitExceededError,
    RunCancelledError,
    TaskTimeoutError,
    WorkerLostError,
)
from ..executors.local import run_here
from ..interfaces import AttemptStats, OutcomeStatus, Turn
from ..machine.protocol import StopReason
from ..payload.failure import Failure
from ..user_code import judge
from .behaviour import FOREVER, Behaviour, call, fault_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ..interfaces import Inputs, Outcome, Plan

    Script = Mapping[str, Behaviour | Sequence[Behaviour]] | Callable[[str, int], Behaviour]


#: One task, at the same moment of the virtual clock: then that clock stands still.
_MOST_RETURNS = 1_000


class SimulatedExecutor:
    """Runs pipelines on a virtual clock with scripted behaviour.

    Args:
        workers: How many attempts run at once.
        script: Per task name a behaviour, or one for each dispatch (the last one repeats); or a function
            ``(name, dispatch) -> Behaviour`` with dispatch 1, 2, ... Tasks not in it run their own action.
        seed: Order of what happens at the same moment, and how long stopped attempts take to die.
        kill_grace_s: Longest time a stopped attempt takes to die, virtual seconds.

    Example::

        executor = SimulatedExecutor(workers=2, script={"extract": [fail(after_s=5), succeed([1, 2])]})
        run = pipeline.run(executor=executor)
        executor.now_s          # virtual seconds that have passed
        executor.trace          # [(0.0, "submitted", "extract", 1), (5.0, "ended", "extract", 1), ...]
    """

    name = "simulated"
    limits_memory = True

    def __init__(
        self, workers: int = 1, script: Script | None = None, *, seed: int = 0, kill_grace_s: float = 2.0
    ) -> None:
        self.workers = options.at_least_one("workers", workers) or 1
        self.now_s = 0.0
        self._numbers = count()
        self.trace: list[tuple[float, str, str, int]] = []
        self._script: Script = {} if script is None else script
        self.random = Random(seed)
        self.kill_grace_s = kill_grace_s
        self.appointments: list[tuple[float, int, Callable[[], object]]] = []

    def at(self, when_s: float, action: Callable[[], object]) -> None:
        """Call ``action`` when the virtual clock reaches ``when_s``, e.g. to cancel the run."""
        heappush(self.appointments, (when_s, next(self._numbers), action))

    def open(self, plan: Plan, inputs: Inputs) -> SimulatedSession:
        """Begin one run; see :class:`~..interfaces.Executor`.

        Raises:
            DefinitionError: The script names a task that the pipeline does not have, or says no behaviour for one.
        """
        if not callable(self._script):
            _check_script(self._script, plan)
        return SimulatedSession(self, plan, inputs)

    def close(self) -> None:
        """Nothing to end."""

    def behaviour(self, name: str, dispatch: int) -> Behaviour:
        """What the given dispatch of the named task does."""
        if callable(self._script):
            return _checked(name, self._script(name, dispatch))
        scripted = self._script.get(name, call())
        if isinstance(scripted, Behaviour):
            return scripted
        return scripted[min(dispatch, len(scripted)) - 1]


def _check_script(script: Mapping[str, Behaviour | Sequence[Behaviour]], plan: Plan) -> None:
    for name, scripted in script.items():
        if name not in plan.dag.index:
            raise DefinitionError(
                f"the script names task {name!r}, which pipeline {plan.pipeline_name!r} does not have"
            )
        behaviours: Any = (scripted,) if isinstance(scripted, Behaviour) else scripted
        if not isinstance(behaviours, list | tuple) or not behaviours:
            raise _no_behaviour(name, scripted)
        for each in behaviours:
            _checked(name, each)


def _checked(name: str, behaviour: object) -> Behaviour:
    if not isinstance(behaviour, Behaviour):
        raise _no_behaviour(name, behaviour)
    if fault := fault_of(behaviour):
        raise DefinitionError(f"the script of task {name!r}: {fault}", task=name)
    return behaviour


def _no_behaviour(name: str, given: object) -> DefinitionError:
    text = f"the script of task {name!r} must be a behaviour, as succeed() makes one, or a list of them, not {given!r}"
    return DefinitionError(text, task=name)


class _Running:
    """One attempt on a simulated worker."""

    __slots__ = ("attempt", "behaviour", "end_s", "over_memory_s", "overdue_s", "reason", "started_s", "task")

    def __init__(
        self, task: int, attempt: int, behaviour: Behaviour, started_s: float, timeout_s: float | None, *, limited: bool
    ) -> None:
        self.task = task
        self.attempt = attempt
        self.behaviour = behaviour
        self.started_s = started_s
        self.end_s = started_s + behaviour.after_s
        self.over_memory_s = FOREVER
        if behaviour.kind == "exceed_memory":
            self.over_memory_s, self.end_s = self.end_s if limited else FOREVER, FOREVER
        self.overdue_s = FOREVER if timeout_s is None or behaviour.kind == "never_start" else started_s + timeout_s
        self.reason: int | None = None

    @property
    def moment_s(self) -> float:
        """When something is to be told of it."""
        return min(self.end_s, self.overdue_s, self.over_memory_s)

    def stop(self, reason: int, end_s: float) -> None:
        """It has been told to stop, and does so then."""
        self.reason = reason
        self.end_s, self.overdue_s, self.over_memory_s = end_s, FOREVER, FOREVER


class SimulatedSession:
    """One run; see :class:`~..interfaces.Session`."""

    def __init__(self, executor: SimulatedExecutor, plan: Plan, inputs: Inputs) -> None:
        self._executor = executor
        self._plan = plan
        self._inputs = inputs
        self._running: dict[tuple[int, int], _Running] = {}
        self._dispatches: dict[int, int] = {}
        self._returns: dict[int, tuple[float, int]] = {}  # of each task: when it was taken back, how often just then
        self._woken = False
        self._workers = min(executor.workers, plan.max_workers or executor.workers)

    def now(self) -> float:
        return self._executor.now_s

    def room(self) -> int:
        return self._workers - len(self._running)

    def submit(self, attempts: Sequence[tuple[int, int]]) -> None:
        for task, attempt in attempts:
            dispatch = self._dispatches[task] = self._dispatches.get(task, 0) + 1
            definition = self._plan.tasks[task]
            behaviour = self._executor.behaviour(definition.name, dispatch)
            timeout_s, limited = self._plan.timeouts[task], task in self._plan.memory_limits
            self._running[task, attempt] = _Running(task, attempt, behaviour, self.now(), timeout_s, limited=limited)
            self._note("submitted", task, attempt)

    def _note(self, what: str, task: int, attempt: int) -> None:
        self._executor.trace.append((self.now(), what, self._plan.tasks[task].name, attempt))

    def stop(self, task: int, attempt: int, reason: int) -> None:
        running = self._running.get((task, attempt))
        if running is None or running.reason is not None:
            return
        if running.behaviour.kind == "never_start":
            running.end_s = self.now()
            return
        running.stop(reason, self.now() + self._executor.random.random() * self._executor.kill_grace_s)

    def kill(self) -> None:
        for running in self._running.values():
            running.stop(StopReason.CANCEL if running.reason is None else running.reason, self.now())

    def wait(self, timeout_s: float | None) -> Turn:
        if self._woken:
            self._woken = False
            return Turn([], [], [])
        limit_s = FOREVER if timeout_s is None else self.now() + timeout_s
        moments = [running.moment_s for running in self._running.values()]
        appointments = self._executor.appointments
        if appointments:
            moments.append(appointments[0][0])
        moment_s = min([limit_s, *moments])
        if moment_s == FOREVER:
            names = [self._plan.tasks[running.task].name for running in self._running.values()]
            raise RuntimeError(f"the simulated run waits for ever for {names}: nothing will happen any more")
        self._executor.now_s = max(self.now(), moment_s)
        while appointments and appointments[0][0] <= self.now():
            heappop(appointments)[2]()
        self._woken = False
        return self._turn()

    def _turn(self) -> Turn:
        """Everything that happens now, shaken."""
        now_s = self.now()
        due = [running for running in self._running.values() if running.moment_s <= now_s]
        self._executor.random.shuffle(due)
        over_memory: list[tuple[int, int]] = []
        turn = Turn([], [], [], over_memory)
        for running in due:
            key = (running.task, running.attempt)
            if running.end_s > now_s:
                if running.over_memory_s <= now_s:
                    running.over_memory_s = FOREVER
                    over_memory.append(key)
                if running.overdue_s <= now_s:
                    running.overdue_s = FOREVER
                    turn.overdue.append(key)
                continue
            del self._running[key]
            if running.behaviour.kind == "never_start" and running.reason is None:
                turn.returned.append(key)
                self._note("returned", *key)
                self._count_return(running.task)
            else:
                turn.ended.append((*key, self._outcome(running)))
                self._note("ended", *key)
        return turn

    def _count_return(self, task: int) -> None:
        now_s = self.now()
        when_s, count = self._returns.get(task, (now_s, 0))
        count = count + 1 if when_s == now_s else 1
        self._returns[task] = now_s, count
        if count == _MOST_RETURNS:
            raise RuntimeError(
                f"the simulated run waits for ever for {[self._plan.tasks[task].name]}: it was taken back before "
                f"it began {count:,} times at {now_s:g} s; let a behaviour that starts follow, or say after_s="
            )

    def _outcome(self, running: _Running) -> Outcome:
        definition = self._plan.tasks[running.task]
        where = f"task {definition.name!r}, attempt {running.attempt}"
        behaviour = running.behaviour
        if running.reason == StopReason.TIMEOUT:
            limit_s = self._plan.timeouts[running.task] or 0.0
            error = TaskTimeoutError(f"{where}: ran longer than its timeout of {limit_s:g} s", timeout_s=limit_s)
            return LocalOutcome(OutcomeStatus.TIMED_OUT, failure=Failure.own(error))
        if running.reason == StopReason.MEMORY:
            limit = self._plan.memory_limits[running.task]
            excess = MemoryLimitExceededError(f"{where}: used more than {limit:,} bytes (simulated)", limit_bytes=limit)
            return LocalOutcome(OutcomeStatus.OUT_OF_MEMORY, failure=Failure.own(excess))
        if running.reason == StopReason.CANCEL:
            stopped = RunCancelledError(f"{where}: ended because the run was stopped")
            return LocalOutcome(OutcomeStatus.CANCELLED, failure=Failure.own(stopped))
        if behaviour.kind == "lose":
            lost = WorkerLostError(f"{where}: its worker was killed by SIGKILL (simulated)", signal=9)
            return LocalOutcome(OutcomeStatus.LOST, failure=Failure.own(lost))
        if behaviour.kind == "call":
            return run_here(self._plan, self._inputs, running.task, running.attempt)
        stats = AttemptStats(pid=0, started_at_s=running.started_s, wall_s=self.now() - running.started_s)
        if behaviour.error is not None:
            return LocalOutcome.of(judge(behaviour.error, definition.retry_on), stats)
        return LocalOutcome(OutcomeStatus.SUCCESS, behaviour.value, stats=stats)

    def wake(self) -> None:
        self._woken = True

    def interrupt(self, *, stop: bool) -> bool:
        self.wake()
        return False

    def is_running(self, task: int, attempt: int) -> bool:
        return False

    def close(self) -> list[tuple[str | None, str]]:
        self._running.clear()
        return []
