"""Rounds and turns, seen from outside: who is measured when, for how long at most, and that nothing stays behind.

A turn's process leads a session of its own, and this process is the subreaper: what a turn or a daemon of some engine
leaves running falls to this process, which ends it before the next turn starts.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from .series import Measured, Series
from .settings import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from .settings import Settings
    from .workloads.workload import Workload

PR_SET_CHILD_SUBREAPER = 36
TURN_LIMIT_S = 240.0
FEWER_ROUNDS = ((30.0, 1), (10.0, 2))
"""Seconds of a turn, and how many turns who needs longer gets: the whole table has to fit into half an hour."""


@dataclass(frozen=True)
class Outcome:
    """What came of one turn: figures, or why there are none."""

    seconds: float
    figures: dict[str, float] | None = None
    reason: str | None = None


def become_subreaper() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot become the subreaper of the turns")


def conduct(
    workload: Workload, contestants: list[str], rounds: int, settings: Settings, tell: Callable[[str], None]
) -> Measured:
    """Give every contestant its turns, round by round."""
    measured = Measured(
        workload.title(settings), workload.reference, {contestant: Series() for contestant in contestants}
    )
    if workload.prepare is not None and (reason := refusal(workload, settings)):
        for series in measured.contestants.values():
            series.reason = reason
        return measured
    planned = max(1, round(rounds * workload.rounds))
    turns = dict.fromkeys(contestants, planned)
    for number in range(planned):
        for contestant, series in measured.contestants.items():
            if series.reason or number >= turns[contestant]:
                continue
            outcome = take_turn(workload.name, contestant, settings)
            tell(f"{workload.name}, round {number + 1}: {contestant} ({outcome.seconds:.1f} s)")
            series.reason = outcome.reason
            series.add(outcome.figures or {})
            turns[contestant] = min(turns[contestant], most_turns(outcome.seconds))
    return measured


def most_turns(seconds: float) -> int:
    """How many turns an engine gets that takes so long for one."""
    return next((turns for limit, turns in FEWER_ROUNDS if seconds > limit), sys.maxsize)


def refusal(workload: Workload, settings: Settings) -> str | None:
    """Why the data of a workload cannot be had, if so."""
    assert workload.prepare is not None
    try:
        workload.prepare(settings)
    except ModuleNotFoundError as missing:
        return f"not installed ({missing.name})"
    except Exception as error:
        return f"no data: {error}"
    return None


def take_turn(workload: str, contestant: str, settings: Settings) -> Outcome:
    """Measure one contestant once."""
    request = {"workload": workload, "contestant": contestant, **asdict(settings)}
    with tempfile.TemporaryDirectory(prefix="bench-turn-") as folder:
        result = Path(folder, "result.json")
        command = [sys.executable, "-m", "benchmarks.turn", json.dumps(request, default=str), str(result)]
        started = time.perf_counter()
        with Path(folder, "log").open("w+", encoding="utf-8", errors="replace") as log:
            status = run_bounded(command, log.fileno())
            seconds = time.perf_counter() - started
            found: dict[str, Any] = {"reason": ended_early(status)}
            if result.exists() and (written := result.read_text(encoding="utf-8")):
                found = json.loads(written)
            if found.get("reason", "").startswith("failed"):
                log.seek(0)
                sys.stderr.write(f"--- {workload}, {contestant}\n{log.read()[-4_000:]}\n")
    return Outcome(seconds, found.get("figures"), found.get("reason"))


def run_bounded(command: list[str], log: int) -> int | None:
    """The exit status, or None if it had to be ended."""
    paths = [str(ROOT), str(ROOT / "examples"), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    bystanders = set(psutil.Process().children(recursive=True))
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    try:
        return process.wait(TURN_LIMIT_S)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        end_strays(bystanders)


def ended_early(status: int | None) -> str:
    return f"failed: no end within {TURN_LIMIT_S:.0f} s" if status is None else f"failed: exit status {status}"


def end_strays(bystanders: set[psutil.Process]) -> None:
    """Whatever the turn started and did not end; the next one is to have the machine for itself."""
    while strays := set(psutil.Process().children(recursive=True)) - bystanders:
        for stray in strays:
            try:
                stray.kill()
            except psutil.NoSuchProcess:
                pass
        psutil.wait_procs(list(strays), timeout=5)
