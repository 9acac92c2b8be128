"""A chain of dependent tasks: what one step costs. Peers without a DAG are fed each result by the coordinator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import actions, dag_actions, peers
from benchmarks.settings import affordable, steady, timed

from .workload import OURS, Workload

if TYPE_CHECKING:
    from benchmarks.peers.interface import Peer
    from benchmarks.settings import Figures, Settings
    from dremioframe.orchestration import ProcessExecutor, Task

FULL = 1_000


def measure(contestant: str, settings: Settings) -> Figures:
    steps = settings.sized(FULL, at_least=2)
    if contestant == OURS:
        return measure_ours(steps, settings)
    return measure_peer(contestant, steps, settings)


def chain_of(steps: int) -> list[Task]:
    from dremioframe.orchestration import Task

    tasks = [Task("step_0", actions.zero)]
    for number in range(1, steps):
        tasks.append(tasks[-1].set_downstream(Task(f"step_{number}", dag_actions.step)))
    return tasks


def run_chain(executor: ProcessExecutor, steps: int) -> None:
    from .engine import run_tasks

    run = run_tasks("chain", chain_of(steps), executor)
    assert run[f"step_{steps - 1}"] == steps - 1


def measure_ours(steps: int, settings: Settings) -> Figures:
    from .engine import warm_executor

    with warm_executor(settings.workers) as executor:
        run_chain(executor, min(steps, 200))
        return steady(lambda: {"us/step": timed(lambda: run_chain(executor, steps)) / steps * 1e6})


def run_peer_chain(peer: Peer, steps: int) -> None:
    handle = peer.submit(actions.zero)
    for _ in range(steps - 1):
        handle = peer.submit(actions.increment, peer.passed(handle))
    assert peer.value(handle) == steps - 1


def measure_peer(name: str, steps: int, settings: Settings) -> Figures:
    with peers.open_peer(name, settings.workers) as peer:

        def seconds_for(length: int) -> float:
            return timed(lambda: run_peer_chain(peer, length))

        def job() -> Figures:
            peer.warm()
            length = affordable(steps, seconds_for)
            return steady(lambda: {"us/step": seconds_for(length) / length * 1e6})

        return peer.within(job)


WORKLOADS = (
    Workload(
        "chain",
        lambda settings: f"a chain of {settings.sized(FULL, at_least=2):,} tasks",
        (OURS, *peers.ALL),
        measure,
    ),
)
