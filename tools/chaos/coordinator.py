"""The process that runs the pipelines of a case; whoever started it hurts it and its descendants meanwhile.

    python -m tools.chaos.coordinator SEED TASKS FOLDER

writes ``go`` and ``done`` to its standard output around the runs, marks and ``runs.json`` to FOLDER. TASKS is 0 for one
with everything in it. SIGUSR1 has it dump its stacks.

What lives here: the runs. What may not: faults, judgement.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from dremioframe.orchestration import Pipeline, ProcessExecutor

from . import watched
from .actions import Place, build, is_intact
from .cases import MOST_TASKS, random_case

if TYPE_CHECKING:
    from typing import Any

    from dremioframe.orchestration import PipelineRun

    from .cases import Case


def summary(run: PipelineRun) -> dict[str, Any]:
    """What is judged, as plain values."""
    tasks = {}
    for name, task in run.tasks.items():
        value: Any = run.get(name)
        tasks[name] = {
            "status": str(task.status),
            "cause": str(task.skip_cause) if task.skip_cause else None,
            "attempts": [[a.number, a.status, a.worker_pid, a.wall_s, str(a.error or "")] for a in task.attempts],
            "digest": value and value[0],
            "size": value and len(value[1]),
            "intact": value is None or is_intact(value),
        }
    return {"status": str(run.status), "tasks": tasks}


def run_case(case: Case, folder: str) -> list[dict[str, Any]]:
    if case.executor == "string":
        return run_all(case, folder, None)
    # Where kills are counted they are to hit tasks, not new workers that still import the tasks' module.
    preload = ["tools.chaos.actions"] if len(case.specs) > MOST_TASKS else []
    with ProcessExecutor(case.workers, kill_grace_s=case.grace_s, preload=preload) as executor:
        told = run_all(case, folder, executor)
        gc.collect()
        executor._store.room()  # noqa: SLF001 - adds up what has been freed
        used = executor._store._used  # noqa: SLF001 - I13 is about this number
    if used:
        told[0]["left"] = [f"{used} bytes of results are still accounted for"]
    return told


def run_all(case: Case, folder: str, executor: ProcessExecutor | None) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = [{} for _ in range(case.runs)]

    def run(number: int) -> None:
        place = Place(f"{folder}/marks{number}", os.getpid())
        with open(place.marks, "x", encoding="ascii"):
            pass
        pipeline = Pipeline(f"chaos{case.seed}-{number}", max_workers=case.workers)
        for task in build(case.specs, place):
            pipeline.add_task(task)
        told[number] = summary(pipeline.run(executor=executor or "process"))

    if not case.together:
        for number in range(case.runs):
            run(number)
        return told
    threads = [threading.Thread(target=run, args=(number,)) for number in range(case.runs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def belongings() -> dict[str, str]:
    owned = {f"thread {thread.ident}": thread.name for thread in threading.enumerate()}
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            owned[f"descriptor {descriptor}"] = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue  # that of the listing itself
    for entry in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{entry}/children", encoding="ascii") as children:
            owned.update({f"child {pid}": pid for pid in children.read().split()})
    return owned


def main() -> None:
    from loguru import logger

    faulthandler.register(signal.SIGUSR1, all_threads=True)
    logger.remove()
    seed, tasks, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    case = random_case(seed, tasks or None)
    if len(case.specs) <= MOST_TASKS:
        watched.install()
    before = belongings()
    os.write(1, b"go\n")
    told = run_case(case, folder)
    os.write(1, b"done\n")
    gc.collect()
    left = [f"{name}: {what}" for name, what in belongings().items() if before.get(name) != what]
    told[0].setdefault("left", []).extend(left)
    told[0]["strays"] = watched.strays
    with open(f"{folder}/runs.json", "w", encoding="utf-8") as file:
        json.dump(told, file)


if __name__ == "__main__":
    main()
