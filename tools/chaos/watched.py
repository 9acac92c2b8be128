"""The engine under a loupe, inside the coordinator of a trial: nothing here is part of the package.

The machine is checked over time after every call of it (I1, I2 and the rest of ``machine.invariants``). When the end of
an attempt is told whose worker has ended, what its tasks had started in that worker has to be gone: not soon, but then.

What lives here: looking from within. What may not: judgement by what was left behind (``verify``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dremioframe.orchestration.engine import coordinator
from dremioframe.orchestration.executors.process_session import ProcessSession
from dremioframe.orchestration.interfaces import OutcomeStatus
from dremioframe.orchestration.machine.invariants import Watch
from dremioframe.orchestration.machine.run_machine import RunMachine

from .actions import Place, living_children

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from dremioframe.orchestration.interfaces import Turn
    from dremioframe.orchestration.machine.protocol import Command, Event

_ENDS_OF_WORKERS = {OutcomeStatus.LOST, OutcomeStatus.TIMED_OUT}

#: Who was still there when the end of an attempt was told, and how to say so.
strays: list[tuple[int, str]] = []


class _Machine(RunMachine):
    """A machine that is checked after every call."""

    __slots__ = ("_watch",)

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._watch = Watch(self)

    def _checked(self, commands: list[Command]) -> list[Command]:
        self._watch.saw(commands)
        return commands

    def start(self) -> list[Command]:
        return self._checked(super().start())

    def take(self, limit: int) -> list[tuple[int, int]]:
        taken = super().take(limit)
        self._checked([])
        return taken

    def untake(self, task: int, attempt: int) -> list[Command]:
        return self._checked(super().untake(task, attempt))

    def succeeded(self, ended: Iterable[tuple[int, int]]) -> list[Command]:
        return self._checked(super().succeeded(ended))

    def handle(self, events: Iterable[Event]) -> list[Command]:
        return self._checked(super().handle(events))


def install() -> None:
    """From now on every run of this process is watched."""
    coordinator.RunMachine = _Machine  # type: ignore[attr-defined, assignment]
    wait = ProcessSession.wait

    def watched_wait(session: ProcessSession, timeout_s: float | None) -> Turn:
        turn = wait(session, timeout_s)
        for task, attempt, outcome in turn.ended:
            if outcome.status in _ENDS_OF_WORKERS and outcome.stats is not None:
                _look(session, task, attempt, outcome.stats.pid)
        return turn

    ProcessSession.wait = watched_wait  # type: ignore[assignment, method-assign]


def _look(session: ProcessSession, task: int, attempt: int, worker: int) -> None:
    definition = session._plan.tasks[task]  # noqa: SLF001 - only a run knows where its marks are
    _, place = definition.args
    there = living_children(Place(*place).marks, worker)
    strays.extend(
        (pid, f"{definition.name}: attempt {attempt} by {worker} has ended, it is told, but {pid} lives")
        for pid in there
    )
