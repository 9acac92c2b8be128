"""Figures that count: fuzzed frames, tests of a kind, steps of the machine, tasks of a very long run.

What lives here: a number of trials in, a result in words out; what goes wrong ends the program. What may not: the
measuring of times (``timings``), the table (``figures``).
"""

from __future__ import annotations

import itertools
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dremioframe.orchestration import Pipeline, Task
from dremioframe.orchestration.compile import compile_tasks
from dremioframe.orchestration.machine.invariants import check
from tools import reliability
from tools.chaos import virtual

if TYPE_CHECKING:
    from dremioframe.orchestration.machine.run_machine import RunMachine

ROOT = Path(__file__).resolve().parent.parent
FAULTS = ROOT / "tests" / "faults"
SEED = 7


def fuzzed_frames(trials: int) -> str:
    """F15: into the coordinator's decoders, with 64 MiB of memory more than they start with."""
    said = _run([str(FAULTS / "wire_fuzz.py"), "--frames", str(trials), "--seed", str(SEED)])
    return f"0 hangs, 0 uncaught errors; {_number('faults', said)} told as faults"


def hostile_packets(trials: int) -> str:
    """F15: from real workers, beside honest tasks whose values are compared."""
    said = _run([str(FAULTS / "wire_hostile.py"), "--frames", str(trials), "--seed", str(SEED)])
    workers = sum(int(found) for found in re.findall(r"'workers': (\d+)", said))
    return f"0 harmed; {workers} workers in all, one a bad task at most"


def tests_named(identifier: str) -> str:
    """F16: all cases of the tests with this pattern among the ids in their names."""
    named = re.compile(rf"^def (test_(?:[a-z]\d+_)*{identifier}_\w+)", re.MULTILINE)
    texts = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py"))}
    tests = [f"{path}::{name}" for path, text in texts.items() for name in named.findall(text)]
    said = _run(["-m", "pytest", "-q", "-p", "no:cacheprovider", *tests])
    passed = re.search(r"(\d+) passed", said)
    assert passed, said
    return f"all {passed[1]} cases of {len(tests)} tests pass"


def each_call() -> str:
    """F17: every call of every kind that a run makes, in coordinator, fork server and worker."""
    said = _run([str(FAULTS / "exhaustion.py")])
    calls = re.search(r"(\d+) calls failed, one a run", said)
    assert calls, said
    kinds = len(re.findall(r"^\w+:\w+: \d+ reached$", said, re.MULTILINE))
    return f"{calls[1]} calls of {kinds} kinds failed, one a run: no hang, no leak, each error names what was short"


def machine_steps(trials: int) -> str:
    """F20: random pipelines under random faults on the virtual clock until so many events were checked."""
    steps = seeds = 0

    def checked(machine: RunMachine) -> None:
        nonlocal steps
        steps += 1
        check(machine)

    while steps < trials:
        violations = virtual.simulate(seeds, after_event=checked)
        if violations:
            sys.exit("\n".join([f"seed {seeds}:", *violations]))
        seeds += 1
    return f"0 violations in {steps} steps of {seeds} pipelines"


def without_recursion(trials: int) -> str:
    """F21: a chain and a fan of so many tasks are declared and compiled, a tenth of them run."""
    resident = _resident_bytes()
    chain = _chain(trials)
    began = time.monotonic()
    dag = compile_tasks(chain)
    took_s, taken = time.monotonic() - began, (_resident_bytes() - resident) / trials
    del chain, dag
    _run_and_read(_chain(trials // 10))
    first, *middle, last = (Task(str(number), int, (number,)) for number in range(trials // 10))
    for task in middle:
        first.set_downstream(task)
        task.set_downstream(last)
    _run_and_read([first, *middle, last])
    return f"checked and compiled in {took_s:.1f} s, {taken:.0f} B a task; {trials // 10} ran as a chain and as a fan"


def catalogue(trials: int) -> str:
    """F24: lines of the catalogue with a test of their name."""
    promises, tests = reliability.read_promises(), reliability.find_tests()
    missing = reliability.problems(promises, tests)
    if missing or len(promises) != trials:
        sys.exit("\n".join([f"{len(promises)} promises", *missing]))
    waiting = sum("waiting" in promise for promise in promises.values())
    return f"{len(promises) - waiting} with a test; {waiting} wait for what is not built"


def _chain(length: int) -> list[Task]:
    tasks = [Task(str(number), int, (number,)) for number in range(length)]
    for above, below in itertools.pairwise(tasks):
        above.set_downstream(below)
    return tasks


def _run_and_read(tasks: list[Task]) -> None:
    pipeline = Pipeline("long")
    for task in tasks:
        pipeline.add_task(task)
    run = pipeline.run(executor="inline")
    assert sum(int(run[name]) for name in run) == len(tasks) * (len(tasks) - 1) // 2  # type: ignore[call-overload]


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def _number(name: str, said: str) -> int:
    found = re.search(rf"'{name}': (\d+)", said)
    assert found, said
    return int(found[1])


def _run(arguments: list[str]) -> str:
    environ = {**os.environ, "PYTHONPATH": str(FAULTS)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout
