"""What the runs left behind, against the oracle and the invariants of the fault catalogue (section 3.3).

What lives here: the judgement, the same for real processes and for the virtual clock. What may not: how it came about.
I7 and I8 stand on digests; I9 on who marked the end; I14 needs a journal, which is not there yet. I1 and I2 are watched
from within (``watched``): records have but one end for each task.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from .actions import value_of
from .cases import EARLY_RULES, ENDS
from .oracle import rule_says

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from .actions import Mark
    from .cases import Case, Spec

TICK_S = 0.002
_FAILING = {"FAILED", "LOST", "TIMED_OUT", "RETRY"}
_LETTERS = {"SUCCESS": "S", "FAILED": "F"}


def letter(task: Mapping[str, Any]) -> str:
    if task["status"] == "SKIPPED":
        return "U" if task["cause"] == "UPSTREAM_FAILED" else "K"
    status: str = task["status"]
    return _LETTERS.get(status, status)


def verify_run(case: Case, run: Mapping[str, Any], killed: Mapping[int, int], pools_killed: int) -> Iterator[str]:
    """Everything that can be judged by records and values: I2, I4 to I8; faults are charged to those they hit.

    Args:
        killed: How often a process of this number was killed.
        pools_killed: How often a fork server or a sentry was: all workers end with it.
    """
    tasks = run["tasks"]
    ends = {name: letter(task) for name, task in tasks.items()}
    excused = pools_killed * case.workers
    for spec in case.specs:
        task, where = tasks[spec.name], f"{spec.name}: "
        for number, (attempt, status, pid, wall_s, error) in enumerate(task["attempts"], 1):
            if attempt != number:
                yield f"{where}I5: attempt {attempt} comes as number {number}"
            planned = ENDS[spec.act_of(number)]
            if status == planned:
                continue
            if status == "LOST" and (pid in killed or excused):
                excused -= pid not in killed
            elif status != "TIMED_OUT" or spec.timeout is None or (pid and not (wall_s or 0) + TICK_S >= spec.timeout):
                yield f"{where}attempt {number} by {pid} ended {status} after {wall_s} s, not {planned}: {error}"
        yield from (where + what for what in _of_end(spec, task, [ends[name] for name in spec.upstream]))
    worst = "FAILED" if "F" in ends.values() else "SUCCESS"
    if run["status"] != worst:
        yield f"the run is {run['status']}, not {worst}"
    lost = Counter(a[2] for task in tasks.values() for a in task["attempts"] if a[1] == "LOST" and a[2] in killed)
    yield from (f"R5: the kill of {pid} cost {count} attempts" for pid, count in lost.items() if count > killed[pid])


def _of_end(spec: Spec, task: Mapping[str, Any], above: Sequence[str]) -> Iterator[str]:
    """One task's end follows from its upstreams' ends and from its own attempts."""
    statuses = [attempt[1] for attempt in task["attempts"]]
    verdict = rule_says(spec.rule, above)
    if (verdict == "run") != bool(statuses):
        yield f"I4: rule {spec.rule} over {above} says {verdict}, and there were {len(statuses)} attempts"
        return
    if not statuses:
        if letter(task) != verdict:
            yield f"ended {task['status']} ({task['cause']}), not {verdict}"
        return
    if any(status not in _FAILING for status in statuses[:-1]):
        yield f"I2: went on after its end: {statuses}"
    if len(statuses) > spec.retries + 1:
        yield f"I6: {len(statuses)} attempts with {spec.retries} retries"
    if statuses[-1] in _FAILING:
        if task["status"] != "FAILED" or len(statuses) != spec.retries + 1:
            yield f"ended {task['status']} after {statuses} with {spec.retries} retries"
    elif task["status"] != {"SUCCESS": "SUCCESS", "SKIPPED": "SKIPPED"}.get(statuses[-1]):
        yield f"ended {task['status']} after {statuses}"
    if (task["status"] == "SUCCESS") != (task["digest"] is not None) or not task["intact"]:
        yield "I7: its value is missing or damaged"
    if task["digest"] is not None and task["size"] != spec.size:
        yield f"I7: its value has {task['size']} bytes, not {spec.size}"


def verify_values(case: Case, run: Mapping[str, Any], serial: Mapping[str, Any]) -> Iterator[str]:
    """Values against those of a serial run without faults, wherever everything above a task ended alike."""
    alike: dict[str, bool] = {}
    for spec in case.specs:
        task, other = run["tasks"][spec.name], serial["tasks"][spec.name]
        same_end = letter(task) == letter(other)
        above = [*spec.upstream, *((spec.far,) if spec.far else ())]
        alike[spec.name] = same_end and spec.rule not in EARLY_RULES and all(alike[name] for name in above)
        if alike[spec.name] and task["digest"] != other["digest"]:
            yield f"{spec.name}: its value is not that of a serial run"


def verify_marks(case: Case, run: Mapping[str, Any], marks: Sequence[Mark]) -> Iterator[str]:
    """What tasks saw of themselves: I3, I4, I8 to I10, and that nothing ran that was not charged."""
    tasks, specs = run["tasks"], {spec.name: spec for spec in case.specs}
    starts: dict[str, list[Mark]] = defaultdict(list)
    ends: dict[str, list[Mark]] = defaultdict(list)
    for mark in marks:
        if mark.what == "!":
            yield f"{mark.task}: attempt {mark.attempt}: {mark.seen}"
        elif mark.what in "SE":
            (starts if mark.what == "S" else ends)[mark.task].append(mark)
    for name, spec in specs.items():
        attempts = tasks[name]["attempts"]
        if len(starts[name]) > len(attempts):
            yield f"{name}: I10: started {len(starts[name])} times and charged {len(attempts)} times"
        pids = Counter(mark.pid for mark in starts[name]) - Counter(attempt[2] for attempt in attempts)
        if pids:
            yield f"{name}: started in {dict(pids)}, of which no attempt tells"
        if tasks[name]["status"] == "SUCCESS":
            yield from _of_success(spec, tasks, ends)
        yield from _of_order(spec, starts, ends)


def _of_success(spec: Spec, tasks: Mapping[str, Any], ends: Mapping[str, list[Mark]]) -> Iterator[str]:
    task = tasks[spec.name]
    by = [mark for mark in ends[spec.name] if mark.pid == task["attempts"][-1][2]]
    if not by:
        yield f"{spec.name}: I9: its result is not from the process that ended it"
        return
    seen = by[-1].seen
    if value_of(spec.name, seen, 0)[0] != task["digest"]:
        yield f"{spec.name}: I8: its value does not follow from what it read"
    for name, digest in seen.items():
        if tasks[name]["digest"] != digest:
            yield f"{spec.name}: I8: it read {digest} of {name}, which gave {tasks[name]['digest']}"
    wanted = [name for name in spec.upstream if tasks[name]["status"] == "SUCCESS"]
    if spec.reads != "nothing" and spec.rule not in EARLY_RULES and not set(wanted) <= set(seen):
        yield f"{spec.name}: it did not get the values of {sorted(set(wanted) - set(seen))}"


def _of_order(spec: Spec, starts: Mapping[str, list[Mark]], ends: Mapping[str, list[Mark]]) -> Iterator[str]:
    """A start stands after all ends above it, and after every earlier end of its own."""
    if not starts[spec.name]:
        return
    first = starts[spec.name][0].at_ns
    if spec.rule not in EARLY_RULES:
        late = [name for name in spec.upstream if any(mark.at_ns > first for mark in ends[name])]
        if late:
            yield f"{spec.name}: I4: started before {late} had ended"
    for before, after in zip(starts[spec.name], starts[spec.name][1:], strict=False):
        own = [mark for mark in ends[spec.name] if (mark.pid, mark.attempt) == (before.pid, before.attempt)]
        if before.attempt and any(mark.at_ns > after.at_ns for mark in own):
            yield f"{spec.name}: I3: attempts overlap"


def verify_sent(runs: Sequence[Mapping[str, Any]], marks: Sequence[Sequence[Mark]]) -> Iterator[str]:
    """What a worker had sent before it died, or was told to, counts: it had, if it has started something else since."""
    told: dict[tuple[int, int], list[tuple[int, str, Mark]]] = defaultdict(list)
    for number, of_run in enumerate(marks):
        for mark in of_run:
            if mark.what == "S":
                told[mark.pid, mark.born].append((mark.at_ns, f"{number} {mark.task}", mark))
    for (pid, _), starts in told.items():
        starts.sort()
        followed = Counter(name for _, name, _ in starts[:-1])
        started = Counter(name for _, name, _ in starts)
        for name, count in followed.items():
            run, _, task = name.partition(" ")
            attempts = runs[int(run)]["tasks"][task]["attempts"]
            void = sum(attempt[1] in {"LOST", "TIMED_OUT"} and attempt[2] == pid for attempt in attempts)
            if void > started[name] - count:
                yield f"run {run}: {task}: {pid} had ended it and gone on, and yet it is lost: {attempts}"


def verify_workers(marks: Sequence[Mark], most: int) -> Iterator[str]:
    """I11 and I12, over all runs that shared workers: one task at a time in each, never more than there are."""
    busy: dict[tuple[int, int], Mark] = {}
    steps: list[tuple[int, int]] = []
    for mark in sorted(marks, key=lambda mark: mark.at_ns):
        process = mark.pid, mark.born
        if mark.what == "S":
            if process in busy:
                yield f"I12: {mark.pid} started {mark.task} while {busy[process].task} had not ended in it"
            busy[process] = mark
        elif mark.what == "E" and process in busy:
            steps += [(busy.pop(process).at_ns, 1), (mark.at_ns, -1)]
    running = 0
    for _, step in sorted(steps):
        running += step
        if running > most:
            yield f"I11: {running} tasks ran at once on {most} workers"
            return
