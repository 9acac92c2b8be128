"""How many cores one coordinator keeps busy, and with tasks of which length: computed, and checked by a simulated run.

    python -m benchmarks.saturation

What a task costs the coordinator is measured first, as its own processor time over a run of tasks that do nothing. From
that follows the shortest task that keeps W cores busy: a coordinator that needs c for a task feeds W workers as long as
tasks take W * c. The simulated run is there because that sentence leaves out the waiting, the windows and the ends: the
real state machine and the real window policy run over W simulated workers on a virtual clock, on which the coordinator
pays for each task what was measured.

What may not live here: a copy of any policy of the engine's.
"""

from __future__ import annotations

import time
from heapq import heappop, heappush
from typing import NamedTuple

from dremioframe.orchestration.dag.dag import Dag
from dremioframe.orchestration.machine.run_machine import RunMachine
from dremioframe.orchestration.pool.window import Window

CORES = (2, 8, 64, 256)
BUSY = 0.9
"""A share of the cores' time: from there on they are kept busy."""

TASKS_PER_WORKER = 60
"""Of the simulated run; with fewer its beginning and its end would count for too much."""

PROBE = 20_000
SHARES_OF_THE_COMPUTED = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)


class Costs(NamedTuple):
    """What a task costs beside its own work, in microseconds.

    Attributes:
        send: The coordinator, to take, pack and send it.
        receive: The coordinator, to receive its outcome and to see what follows.
        worker: The worker.
        wake: From the end of a wait in the kernel until the waiting process runs.
    """

    send: float
    receive: float
    worker: float
    wake: float = 25.0

    @property
    def coordinator(self) -> float:
        return self.send + self.receive


class _Worker:
    """Calls that wait, and when it will have done all of them."""

    def __init__(self) -> None:
        self.held = 0
        self.free_at = 0.0


def simulate(workers: int, task_us: float, costs: Costs, tasks: int | None = None) -> float:
    """The share of all workers' time that is spent in tasks, in a run of independent tasks of equal length."""
    tasks = tasks or workers * TASKS_PER_WORKER
    machine = RunMachine(Dag([f"t{n}" for n in range(tasks)], [()] * tasks), "leaves")
    machine.start()
    window, crew = Window(), [_Worker() for _ in range(workers)]
    outcomes: list[tuple[float, int, tuple[int, int]]] = []  # when it is there, whose, which attempt
    now = 0.0
    while not machine.finished:
        now = _send(machine, window, crew, outcomes, now, task_us, costs)
        if outcomes[0][0] > now:
            now = outcomes[0][0] + costs.wake
        arrived = []
        while outcomes and outcomes[0][0] <= now:
            _, number, attempt = heappop(outcomes)
            crew[number].held -= 1
            arrived.append(attempt)
        now += costs.receive * len(arrived)
        window.observe(len(arrived), int(len(arrived) * task_us * 1000))
        machine.succeeded(arrived)
    return tasks * task_us / (workers * now)


def _send(
    machine: RunMachine,
    window: Window,
    crew: list[_Worker],
    outcomes: list[tuple[float, int, tuple[int, int]]],
    now: float,
    task_us: float,
    costs: Costs,
) -> float:
    """Fill the workers' windows, the emptiest first; returns the time afterwards."""
    share = -(-machine.ready // len(crew))
    size = min(window.size, max(1, share))
    for number in sorted(range(len(crew)), key=lambda index: crew[index].held):
        worker = crew[number]
        for attempt in machine.take(size - worker.held) if worker.held < size else ():
            now += costs.send
            begins = worker.free_at if worker.held else max(worker.free_at, now + costs.wake)
            worker.free_at = begins + costs.worker + task_us
            worker.held += 1
            heappush(outcomes, (worker.free_at, number, attempt))
    return now


def computed_us(workers: int, costs: Costs) -> float:
    """The shortest task that keeps so many workers busy, if there were nothing but what tasks cost both sides."""
    return max(BUSY * workers * costs.coordinator, BUSY / (1 - BUSY) * costs.worker)


def simulated_us(workers: int, costs: Costs) -> float | None:
    """The shortest task of those tried that does so in the simulated run."""
    computed = computed_us(workers, costs)
    for share in SHARES_OF_THE_COMPUTED:
        if simulate(workers, share * computed, costs) >= BUSY:
            return share * computed
    return None


def measured_costs(workers: int = 2) -> Costs:
    """What a task that does nothing costs this machine: processor time of coordinator and workers.

    The coordinator's time is halved between sending and receiving, as its profile says.
    """
    from benchmarks.actions import nothing
    from dremioframe.orchestration import Task

    from .workloads.engine import run_tasks, warm_executor

    with warm_executor(workers) as executor:
        run_tasks("warm", [Task(f"t{n}", nothing) for n in range(PROBE)], executor)
        tasks = [Task(f"t{n}", nothing) for n in range(PROBE)]
        before = time.process_time()
        run = run_tasks("probe", tasks, executor)
        coordinator_us = (time.process_time() - before) / PROBE * 1e6
        worker_s = sum(task.attempts[0].cpu_s or 0.0 for task in run.tasks.values())
    return Costs(coordinator_us / 2, coordinator_us / 2, worker_s / PROBE * 1e6)


def text() -> str:
    """All of it, as lines."""
    costs = measured_costs()
    lines = [
        f"one task: {costs.coordinator:.1f} us of the coordinator, {costs.worker:.1f} us of a worker beside its work",
        "",
        f"{'cores':>6} {'computed':>12} {'simulated':>12}   shortest task that keeps {BUSY:.0%} of them busy",
    ]
    for cores in CORES:
        simulated = simulated_us(cores, costs)
        shown = "none of those tried" if simulated is None else f"{simulated / 1000:9.3f} ms"
        lines.append(f"{cores:>6} {computed_us(cores, costs) / 1000:9.3f} ms {shown:>12}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(text())
