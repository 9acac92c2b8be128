"""A worker is killed while it runs a task: how long until a task starts on its successor, nothing preloaded.

The task notes the time and kills itself with SIGKILL; what runs next, in a pool of one worker, notes the time again.
With ours that is its own retry.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

from benchmarks import actions, dag_actions

from .workload import OURS, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.settings import Figures, Settings

KILLS = 100
PEER_KILLS = 10


def measure(contestant: str, settings: Settings) -> Figures:
    with tempfile.TemporaryDirectory(prefix="bench-kill-") as folder:
        path = str(Path(folder, "killed-at"))
        if contestant == OURS:
            return measure_ours(path, settings.sized(KILLS, at_least=3))
        return measure_pebble(path, settings.sized(PEER_KILLS, at_least=3))


def measure_ours(path: str, kills: int) -> Figures:
    from dremioframe.orchestration import Task

    from .engine import run_tasks, warm_executor

    with warm_executor(1) as executor:

        def kill() -> float:
            task = Task("dies_once", dag_actions.die_then_tell, (path,), retries=1, retry_delay=0.0)
            return cast(float, run_tasks("replacement", [task], executor)["dies_once"])

        return figures_of(kill, kills)


def measure_pebble(path: str, kills: int) -> Figures:
    from benchmarks.peers.pebble_pool import Pool

    with Pool(1) as peer:
        peer.warm()

        def kill() -> float:
            peer.submit(actions.note_and_die, path).exception()
            result: float = peer.value(peer.submit(actions.milliseconds_since, path))
            return result

        return figures_of(kill, kills)


def figures_of(kill: Callable[[], float], kills: int) -> Figures:
    kill()
    found = sorted(kill() for _ in range(kills))
    return {"median, ms": statistics.median(found), "p99, ms": found[int(0.99 * (len(found) - 1))]}


WORKLOADS = (
    Workload(
        "replacement",
        lambda settings: (
            f"SIGKILL of a worker until its successor runs a task ({settings.sized(KILLS, 3)} kills a turn)"
        ),
        (OURS, "pebble"),
        measure,
    ),
)
