"""Recorded DAGs with run times scaled down: every task burns processor time and returns as many bytes as it once did.

``concurrent.futures`` is driven by a plain topological scheduler, as one writes it by hand: a task is submitted when
its upstream tasks are done, with their results as its arguments. Dask gets all tasks at once, with futures as
arguments. The floor is computed: work shared out evenly or the longest path, whichever is longer.
"""

from __future__ import annotations

import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, cast

from benchmarks import actions, dag_actions, peers, recorded_workflows

from .workload import FLOOR, OURS, Workload

if TYPE_CHECKING:
    from benchmarks.peers.interface import Peer
    from benchmarks.recorded_workflows import Workflow
    from benchmarks.settings import Figures, Settings
    from dremioframe.orchestration import ProcessExecutor

SECONDS_EACH = 1.0


def measure(contestant: str, settings: Settings) -> Figures:
    least_s = max(0.02, SECONDS_EACH * settings.scale)
    loaded = recorded_workflows.load(settings.workflows)
    workflows = [workflow.scaled_to(least_s, settings.workers) for workflow in loaded]
    if contestant == FLOOR:
        return with_total({workflow.name: least_s for workflow in workflows})
    if contestant == OURS:
        return measure_ours(workflows, settings)
    return measure_peer(contestant, workflows, settings)


def measure_ours(workflows: list[Workflow], settings: Settings) -> Figures:
    from .engine import warm_executor

    with warm_executor(settings.workers) as executor:
        return with_total({workflow.name: run_ours(executor, workflow) for workflow in workflows})


def run_ours(executor: ProcessExecutor, workflow: Workflow) -> float:
    from dremioframe.orchestration import Task

    from .engine import run_tasks

    started = time.perf_counter()
    tasks: list[Task] = []
    for index, node in enumerate(workflow.nodes):
        upstream = [tasks[above] for above in node.upstream]
        arguments = (node.cpu_s, node.output_bytes, tuple(task.name for task in upstream))
        tasks.append(Task(f"{index} {node.name}", dag_actions.recorded, arguments))
        for above in upstream:
            above.set_downstream(tasks[-1])
    run = run_tasks(workflow.name, tasks, executor)
    check(workflow, [cast(bytes, run[tasks[sink].name]) for sink in workflow.sinks()])
    return time.perf_counter() - started


def measure_peer(name: str, workflows: list[Workflow], settings: Settings) -> Figures:
    with peers.open_peer(name, settings.workers) as peer:
        peer.warm()
        run = run_with_handles if name == "dask" else run_topologically
        figures = {}
        for workflow in workflows:
            started = time.perf_counter()
            check(workflow, run(peer, workflow))
            figures[workflow.name] = time.perf_counter() - started
        return with_total(figures)


def run_with_handles(peer: Peer, workflow: Workflow) -> list[Any]:
    handles: list[Any] = []
    for node in workflow.nodes:
        upstream = [handles[above] for above in node.upstream]
        handles.append(peer.submit(actions.recorded, node.cpu_s, node.output_bytes, *upstream))
    return peer.values([handles[sink] for sink in workflow.sinks()])


def run_topologically(peer: Peer, workflow: Workflow) -> list[Any]:
    nodes = workflow.nodes
    downstream: list[list[int]] = [[] for _ in nodes]
    for index, node in enumerate(nodes):
        for above in node.upstream:
            downstream[above].append(index)
    missing = [len(node.upstream) for node in nodes]
    results: list[Any] = [None] * len(nodes)
    done: SimpleQueue[tuple[int, Any]] = SimpleQueue()

    def start(index: int) -> None:
        node = nodes[index]
        upstream = [results[above] for above in node.upstream]
        future = peer.submit(actions.recorded, node.cpu_s, node.output_bytes, *upstream)
        future.add_done_callback(lambda finished: done.put((index, finished)))

    for index, count in enumerate(missing):
        if not count:
            start(index)
    for _ in nodes:
        index, future = done.get()
        results[index] = future.result()
        for below in downstream[index]:
            missing[below] -= 1
            if not missing[below]:
                start(below)
    return [results[sink] for sink in workflow.sinks()]


def check(workflow: Workflow, outputs: list[bytes]) -> None:
    assert [len(output) for output in outputs] == [workflow.nodes[sink].output_bytes for sink in workflow.sinks()]


def with_total(seconds: dict[str, float]) -> Figures:
    return {"all, s": sum(seconds.values())} | {f"{name}, s": each for name, each in seconds.items()}


def title(settings: Settings) -> str:
    origin = f"recorded, from {settings.workflows.name}/" if settings.workflows else "synthetic, from a seed"
    return f"whole workflows with run times scaled down ({origin})"


WORKLOADS = (Workload("dags", title, (OURS, FLOOR, "concurrent.futures", "dask"), measure, rounds=0.6),)
