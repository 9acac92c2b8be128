"""A machine to tell stories to, watched all the time by the checker of its invariants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dremioframe.orchestration.dag.dag import Dag
from dremioframe.orchestration.dag.retry_policy import RetryPolicy
from dremioframe.orchestration.machine.invariants import Watch
from dremioframe.orchestration.machine.run_machine import RunMachine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dremioframe.orchestration.machine.protocol import Command, Event


A, B, C = 0, 1, 2


class Bench:
    """A started machine under watch."""

    def __init__(self, upstreams: Sequence[Sequence[int]], keep_results: str = "all", **columns: Any) -> None:
        self.machine = RunMachine(Dag("abcdefghij"[: len(upstreams)], upstreams, **columns), keep_results)
        self.watch = Watch(self.machine)
        self.saw(self.machine.start())

    def saw(self, commands: list[Command]) -> list[Command]:
        self.watch.saw(commands)
        return commands

    def take(self, limit: int = 99) -> list[tuple[int, int]]:
        taken = self.machine.take(limit)
        self.watch.saw()
        return taken

    def tell(self, *events: Event) -> list[Command]:
        return self.saw(self.machine.handle(events))

    def succeed(self, *attempts: tuple[int, int]) -> list[Command]:
        return self.saw(self.machine.succeeded(attempts))

    def untake(self, task: int, attempt: int) -> list[Command]:
        return self.saw(self.machine.untake(task, attempt))

    @property
    def states(self) -> list[str]:
        return [str(phase.task_state) for phase in self.machine.phases]


def alone(retries: int = 0, **policy: float) -> Bench:
    bench = Bench([()], policies=[RetryPolicy(retries, **{"jitter": 0.0, **policy})])
    bench.take()
    return bench


CHAIN = [(), (A,), (B,)]
