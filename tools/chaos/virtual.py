"""The same cases under the same scripts on the virtual clock: the real engine, no processes, no waiting.

What lives here: what a fault is for a simulated worker. What may not: judgement (``verify``).
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from dremioframe.orchestration.compile import compile_tasks
from dremioframe.orchestration.engine.coordinator import Coordinator
from dremioframe.orchestration.engine.interrupts import Interrupts
from dremioframe.orchestration.interfaces import Plan
from dremioframe.orchestration.machine.invariants import check
from dremioframe.orchestration.records import PipelineRun
from dremioframe.orchestration.run_data import RunData
from dremioframe.orchestration.testing import SimulatedExecutor, SimulatedSession, call, hang, lose_worker, never_start

from . import verify
from .actions import Place, build
from .cases import ENDS, random_case
from .coordinator import summary
from .scripts import KILLS_OF_ALL, random_script

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from dremioframe.orchestration.interfaces import Inputs
    from dremioframe.orchestration.machine.run_machine import RunMachine
    from dremioframe.orchestration.testing import Behaviour

    from .cases import Case
    from .scripts import Fault

HORIZON_S = 20.0
LARGEST = 100


class _Session(SimulatedSession):
    """A session whose workers can be struck."""

    def __init__(self, executor: _Executor, plan: Plan, inputs: Inputs) -> None:
        super().__init__(executor, plan, inputs)
        self._attempts = executor.attempts
        self._struck = executor.struck

    def submit(self, attempts: Sequence[tuple[int, int]]) -> None:
        self._attempts.update({self._plan.tasks[task].name: attempt for task, attempt in attempts})
        super().submit(attempts)

    def strike(self, fault: Fault) -> None:
        running = [self._running[key] for key in sorted(self._running)]
        if not running:
            return
        one = running[fault.which % len(running)]
        match fault.what:
            case "kill_worker" | "kill_stopped_worker" | "kill_zygote" | "kill_sentry":
                for each in running if fault.what in KILLS_OF_ALL else [one]:
                    if each.behaviour.kind != "never_start":
                        self._struck.add((self._plan.tasks[each.task].name, each.attempt))
                        each.behaviour, each.end_s = lose_worker(), self.now()
            case "kill_grandchild" | "stop_grandchild":  # stands for a call that is taken back from its worker
                if one.reason is None and one.started_s == self.now():
                    one.behaviour, one.end_s, one.overdue_s = never_start(), self.now(), float("inf")
            case "stop_worker":
                one.end_s += fault.for_s
            case _:
                for each in running:
                    each.end_s += fault.for_s


class _Executor(SimulatedExecutor):
    def __init__(self, case: Case, script: Iterable[Fault]) -> None:
        super().__init__(case.workers, self._does, seed=case.seed, kill_grace_s=case.grace_s)
        self._specs = {spec.name: spec for spec in case.specs}
        self.attempts: dict[str, int] = {}
        self.struck: set[tuple[str, int]] = set()
        self._faults = list(script)

    def _does(self, name: str, dispatch: int) -> Behaviour:
        spec = self._specs[name]
        act = spec.act_of(self.attempts[name])  # one that never started is dispatched again
        if act == "hang":
            return hang()
        return lose_worker(spec.takes_s) if act == "exit" else call(spec.takes_s)

    def open(self, plan: Plan, inputs: Inputs) -> _Session:
        session = _Session(self, plan, inputs)
        for fault in self._faults:
            self.at(fault.at_s, partial(session.strike, fault))
        return session


def small(case: Case) -> Case:
    return case._replace(specs=tuple(spec._replace(size=min(spec.size, LARGEST)) for spec in case.specs))


def simulate(
    seed: int, script: Iterable[Fault] | None = None, after_event: Callable[[RunMachine], None] = check
) -> list[str]:
    """One trial; its violations. The machine's own invariants are checked after every event.

    Raises:
        InvariantError: The machine contradicts itself.
    """
    case = small(random_case(seed))
    if script is None:
        script = takewhile(lambda fault: fault.at_s < HORIZON_S, random_script(seed))
    tasks = build(case.specs, Place("", os.getpid()))
    dag = compile_tasks(tasks)
    data = RunData("id", "p", dag, datetime.now(UTC))
    plan = Plan("id", "p", dag, tasks, [task.timeout for task in tasks], {}, None)
    executor = _Executor(case, script)
    Coordinator(
        plan,
        executor,
        data,
        Interrupts(),
        keep_results="all",
        timeout_s=None,
        seed=seed,
        after_event=after_event,
    ).run()
    told = summary(PipelineRun(data))
    # Simulated workers have no number: the judge excuses every loss, and each is charged to its strike here.
    killed = dict.fromkeys((0, None), 1)
    found = [what for what in verify.verify_run(case, told, killed, 0) if not what.startswith("R5")]  # type: ignore[arg-type]
    return found + list(charged(case, told, executor.struck)) + _of_trace(executor, case)


def charged(case: Case, told: Mapping[str, Any], struck: Collection[tuple[str, int]]) -> Iterator[str]:
    """R5: an attempt whose worker was killed is no success, and no other is lost that was not to be."""
    for spec in case.specs:
        for number, status, *_ in told["tasks"][spec.name]["attempts"]:
            if status == "LOST" and ENDS[spec.act_of(number)] != "LOST" and (spec.name, number) not in struck:
                yield f"R5: attempt {number} of {spec.name} is lost, and nobody killed its worker"
            if status == "SUCCESS" and (spec.name, number) in struck:
                yield f"R5: attempt {number} of {spec.name} is a success of a worker that was killed"


def _of_trace(executor: _Executor, case: Case) -> list[str]:
    """I3, I10 and I11 by what the executor was told to do."""
    busy: set[tuple[str, int]] = set()
    found: list[str] = []
    for _, what, name, attempt in executor.trace:
        if what == "submitted":
            if any(running == name for running, _ in busy):
                found.append(f"I3: attempts of {name} overlap")
            busy.add((name, attempt))
        else:
            busy.discard((name, attempt))
        if len(busy) > case.workers:
            found.append(f"I11: {len(busy)} attempts on {case.workers} workers")
    return found + [f"I10: {name}, attempt {attempt}, has no end" for name, attempt in busy]
