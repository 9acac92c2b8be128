"""How long it takes until a death or a time-out has been dealt with; each measured on a warm executor.

What lives here: what ``trials`` measures in this process. What may not: tables, files.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from dremioframe.orchestration import PipelineRun

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 0.05
MOST_TRIES = 20
RACE_TIMEOUT_S = 0.02
RACE_S = 0.002
BATCH = 200


def warm(workers: int) -> ProcessExecutor:
    """Its workers need not import this module first, which would be measured too."""
    return ProcessExecutor(workers, kill_grace_s=0.0, preload=["tools.timings"])


def note_time(path: str) -> None:
    """The machine's monotonic clock is the same in all its processes."""
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{time.monotonic_ns()} {os.getpid()}")


def noted(path: str) -> tuple[float, int]:
    when, pid = Path(path).read_text(encoding="ascii").split()
    return int(when) / 1e9, int(pid)


def dies(path: str) -> None:
    note_time(path)
    os.kill(os.getpid(), signal.SIGKILL)


def run(tasks: list[Task], executor: ProcessExecutor) -> PipelineRun:
    pipeline = Pipeline("trial")
    for task in tasks:
        pipeline.add_task(task)
    return pipeline.run(executor=executor)


def detection(trials: int) -> list[float]:
    """F3; until ``run()`` has returned, which is a little later than the record."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder, warm(2) as executor:
        path = f"{folder}/at"
        for _ in range(trials):
            ended = run([Task("dies", dies, (path,))], executor)
            seconds.append(time.monotonic() - noted(path)[0])
            if ended.tasks["dies"].attempts[0].status != "LOST":
                raise AssertionError(ended.explain("dies"))
    return seconds


def replacement(trials: int) -> list[float]:
    """F4: with one worker, the second task needs a new one."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder, warm(1) as executor:
        for _ in range(trials):
            first = Task("dies", dies, (f"{folder}/first",))
            second = Task("next", note_time, (f"{folder}/second",), trigger_rule="one_failed")
            first.set_downstream(second)
            run([first, second], executor)
            seconds.append(noted(f"{folder}/second")[0] - noted(f"{folder}/first")[0])
    return seconds


def python_loop(path: str) -> None:
    note_time(path)
    while True:
        pass


def c_loop(path: str) -> None:
    note_time(path)
    re.match(r"(a+)+$", "a" * 60 + "b")


def ignores_sigterm(path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note_time(path)
    while True:
        time.sleep(1)


def stops_itself(path: str) -> None:
    note_time(path)
    os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        time.sleep(1)


STUCK: list[Callable[[str], None]] = [python_loop, c_loop, ignores_sigterm, stops_itself]


def overtime(trials: int) -> list[float]:
    """F5; ``run()`` returns when the process is gone. So many were measured, however often it took to get them."""
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder, warm(1) as executor:
        path = f"{folder}/at"
        for _ in range(trials * MOST_TRIES):
            action = STUCK[len(seconds) % len(STUCK)]
            ended = run([Task("stuck", action, (path,), timeout=TIMEOUT_S)], executor)
            if not os.path.exists(path):  # a slow start took all of its time: nothing to measure
                continue
            _, pid = noted(path)
            os.unlink(path)
            [attempt] = ended.tasks["stuck"].attempts
            if attempt.status != "TIMED_OUT" or attempt.wall_s is None or os.path.exists(f"/proc/{pid}"):
                raise AssertionError(ended.explain("stuck"))
            seconds.append(attempt.wall_s - TIMEOUT_S)  # from its start on the page, which is before its first line
            if len(seconds) == trials:
                return seconds
    raise AssertionError(f"{len(seconds)} of {trials} tasks began before their time was over")


def nearly_late(takes_s: float) -> float:
    until = time.monotonic() + takes_s
    while time.monotonic() < until:
        pass
    return takes_s


def photo_finish(trials: int) -> str:
    """F6: whatever wins, each task has one outcome, and a kill hits nobody else."""
    dice, won, late = random.Random(6), 0, 0
    with warm(2) as executor:
        for first in range(0, trials, BATCH):
            takes = [RACE_TIMEOUT_S + dice.uniform(-RACE_S, RACE_S) for _ in range(min(BATCH, trials - first))]
            tasks = [Task(f"t{i}", nearly_late, (each,), timeout=RACE_TIMEOUT_S) for i, each in enumerate(takes)]
            ended = run(tasks, executor)
            for i, each in enumerate(takes):
                task = ended.tasks[f"t{i}"]
                statuses = [attempt.status for attempt in task.attempts]
                if statuses == ["SUCCESS"] and ended[f"t{i}"] == each:
                    won += 1
                elif statuses == ["TIMED_OUT"] and task.status == "FAILED":
                    late += 1
                else:
                    raise AssertionError(ended.explain(f"t{i}"))
    return f"0 double, 0 misdirected, 0 hung; {won} in time, {late} timed out"


STOPPED = """
import os, signal, subprocess, sys, time
from loguru import logger
logger.remove()
from dremioframe.orchestration import Pipeline, ProcessExecutor, Task
real, began = time.time, time.monotonic()
time.time = lambda: real() + 86_400 * (-1) ** int((time.monotonic() - began) / 0.05)
def short(path):
    os.close(os.open(path, os.O_WRONLY))
    time.sleep(0.3)
    return "in time"
with ProcessExecutor(2) as executor:
    pipeline = Pipeline("clock")
    pipeline.add_task(Task("short", short, (sys.argv[1],), timeout=1.0))
    pipeline.add_task(Task("hangs", time.sleep, (600,), timeout=1.0))
    run = pipeline.run(executor=executor)
print([run.tasks[name].attempts[0].status for name in ("short", "hangs")])
"""


def stopped_clock(trials: int, stop_s: float = 1.5) -> str:
    """F25: the coordinator sleeps through the end of one task and the time-out of the other."""
    for _ in range(trials):
        with tempfile.TemporaryDirectory() as folder:
            os.mkfifo(f"{folder}/runs")
            coordinator = subprocess.Popen(
                [sys.executable, "-c", STOPPED, f"{folder}/runs"], stdout=subprocess.PIPE, cwd=ROOT, text=True
            )
            try:
                with open(f"{folder}/runs", "rb") as runs:
                    coordinator.send_signal(signal.SIGSTOP)
                    runs.read()
                time.sleep(stop_s)  # the length of the stop is what is tried
                coordinator.send_signal(signal.SIGCONT)
                said, _ = coordinator.communicate(timeout=60)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    coordinator.kill()
                coordinator.wait()
        if said.strip() != "['SUCCESS', 'TIMED_OUT']":
            raise AssertionError(f"with the coordinator stopped for {stop_s:g} s: {said}")
    return f"0 false, 0 missed (stopped for {stop_s:g} s)"
