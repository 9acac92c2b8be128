"""Fan-out and fan-in: one source, many tasks that return 1 kB each, one task that reads them all.

Beside it, in the same turn, as many independent tasks that do nothing: the ratio is what a wide join costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import actions, dag_actions, peers
from benchmarks.settings import affordable, steady, timed

from .workload import OURS, Workload

if TYPE_CHECKING:
    from benchmarks.peers.interface import Peer
    from benchmarks.settings import Figures, Settings
    from dremioframe.orchestration import ProcessExecutor

FULL = 10_000
CONTESTANTS = (OURS, "concurrent.futures", "loky", "dask", "ray")


def measure(contestant: str, settings: Settings) -> Figures:
    width = settings.sized(FULL, at_least=2)
    if contestant == OURS:
        return measure_ours(width, settings)
    return measure_peer(contestant, width, settings)


def run_fan(executor: ProcessExecutor, width: int) -> None:
    from dremioframe.orchestration import Task

    from .engine import run_tasks

    source = Task("source", actions.zero)
    leaves = [Task(f"leaf_{number}", dag_actions.leaf) for number in range(width)]
    gather = Task("gather", dag_actions.gather, (width,))
    for leaf in leaves:
        source.set_downstream(leaf).set_downstream(gather)
    run = run_tasks("fan", [source, *leaves, gather], executor)
    assert run["gather"] == 1_000 * width


def measure_ours(width: int, settings: Settings) -> Figures:
    from .engine import warm_executor
    from .independent import once

    with warm_executor(settings.workers) as executor:
        run_fan(executor, min(width, 200))

        def both() -> Figures:
            independent_s = timed(lambda: once(executor, width))
            return figures(timed(lambda: run_fan(executor, width)), independent_s, width)

        return steady(both, seconds=2.0)


def run_peer_fan(peer: Peer, width: int) -> None:
    source = peer.passed(peer.submit(actions.zero))
    leaves = [peer.submit(actions.kilobyte, source) for _ in range(width)]
    gather = peer.submit(actions.total_length, *map(peer.passed, leaves))
    assert peer.value(gather) == 1_000 * width


def measure_peer(name: str, full_width: int, settings: Settings) -> Figures:
    with peers.open_peer(name, settings.workers) as peer:
        peer.warm()
        width = affordable(full_width, lambda count: timed(lambda: run_peer_fan(peer, count)))

        def both() -> Figures:
            independent_s = timed(lambda: peer.values(peer.submit_many(width)))
            return figures(timed(lambda: run_peer_fan(peer, width)), independent_s, width)

        return steady(both)


def figures(fan_s: float, independent_s: float, width: int) -> Figures:
    return {"us/task": fan_s / width * 1e6, "x independent tasks": fan_s / independent_s}


WORKLOADS = (
    Workload(
        "fan",
        lambda settings: f"fan-out and fan-in of {settings.sized(FULL, at_least=2):,} tasks with 1 kB each",
        CONTESTANTS,
        measure,
        rounds=0.6,
    ),
)
