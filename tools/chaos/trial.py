"""One trial: a case under a script, judged. On real processes and on the virtual clock.

What lives here: how the pieces meet. What may not: command lines, figures.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dremioframe.orchestration import Pipeline

from . import scripts, verify
from .actions import Place, build, read_marks
from .cases import random_case
from .conductor import LIMIT_S, conduct
from .coordinator import summary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .cases import Case
    from .conductor import Trial
    from .scripts import Fault


class Judged(NamedTuple):
    """What came of a trial.

    Attributes:
        violations: Each a sentence; none if all is well.
        lost_per_kill: How many attempts each kill of a worker cost, by process.
        executions: How many attempts started, by their own marks.
        survivors: Children of tasks that were left where nobody was left to end them.
    """

    violations: list[str]
    applied: list[Fault]
    tasks: int
    executions: int
    lost_per_kill: dict[int, int]
    survivors: int


def serial(case: Case) -> dict[str, Any]:
    """The same pipeline in one thread, without faults."""
    import os

    with tempfile.TemporaryDirectory() as folder:
        place = Place(f"{folder}/marks", os.getpid())
        with open(place.marks, "x", encoding="ascii"):
            pass
        pipeline = Pipeline("serial")
        for task in build(case.specs, place):
            pipeline.add_task(task)
        return summary(pipeline.run(executor="inline"))


def real(seed: int, tasks: int = 0, script: Iterator[Fault] | None = None, limit_s: float = LIMIT_S) -> Judged:
    """One trial on processes.

    Args:
        tasks: 0 for a case with everything in it; else so many short tasks, and kills only.
        script: Instead of the seed's own.
    """
    if script is None:
        script = scripts.kills_only(seed) if tasks else scripts.random_script(seed)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        trial = conduct(seed, script, Path(folder), tasks, limit_s)
        return _judge(random_case(seed, tasks or None), trial, Path(folder))


def _judge(case: Case, trial: Trial, folder: Path) -> Judged:
    killed = Counter(pid for what, pid in trial.hits if what in {"kill_worker", "kill_stopped_worker"})
    pools = sum(what in scripts.KILLS_OF_ALL for what, _ in trial.hits)
    violations, everywhere, reference = list(trial.problems), [], serial(case)
    marks_of = []
    lost: Counter[int] = Counter()
    for number, run in enumerate(trial.runs):
        if not run.get("tasks"):  # that is a problem already
            continue
        marks = read_marks(str(folder / f"marks{number}"))
        found = [*verify.verify_run(case, run, killed, pools), *verify.verify_marks(case, run, marks)]
        found += verify.verify_values(case, run, reference)
        if case.executor == "string":
            found += verify.verify_workers(marks, case.workers)
        everywhere += marks
        marks_of.append(marks)
        violations += [f"run {number}: {what}" for what in found] + run.get("left", [])
        violations += [said for pid, said in run.get("strays", []) if pid not in trial.survivors]
        lost.update(a[2] for task in run["tasks"].values() for a in task["attempts"] if a[1] == "LOST")
    if len(marks_of) == len(trial.runs):
        violations += verify.verify_sent(trial.runs, marks_of)
    if case.executor == "warm":
        violations += verify.verify_workers(everywhere, case.workers)
    executions = sum(mark.what == "S" for mark in everywhere)
    per_kill = {pid: -(-lost[pid] // kills) for pid, kills in killed.items()}
    return Judged(violations, trial.applied, len(case.specs) * case.runs, executions, per_kill, len(trial.survivors))
