"""Measures the reliability figures: ``python -m tools.trials --figure F3 --trials 300 [--starved]``.

Without ``--figure`` all of them are measured. Results go to ``docs/reliability-figures.json``. ``--starved`` binds this
process and all that it starts to one core, beside a program that does nothing but turn.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tools import counts, figures, soak, timings
from tools.by_path import load
from tools.chaos import trial
from tools.flake import starved

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = ROOT / "tests" / "faults" / "scenarios_clean.py"
CHAOS_TASKS = 10_000


class Figure(NamedTuple):
    """One figure.

    Attributes:
        trials: How many are wanted.
        measured: From the number of trials to a result in words.
    """

    measure: str
    goal: str
    trials: int
    measured: Callable[[int], str]


def spread(seconds: Sequence[float]) -> str:
    """Median, 99th percentile and maximum."""
    ranked = sorted(seconds)
    at = [ranked[min(len(ranked) - 1, int(len(ranked) * share))] * 1e3 for share in (0.5, 0.99)]
    return f"p50 {at[0]:.1f} ms, p99 {at[1]:.1f} ms, max {ranked[-1] * 1e3:.1f} ms"


def kills(trials: int) -> str:
    """F1 and F2: trials are seeds of 10,000 tasks each."""
    busy = hits = worst = 0
    for seed in range(trials):
        judged = trial.real(seed, CHAOS_TASKS, limit_s=900.0)
        if judged.violations or judged.executions > judged.tasks + len(judged.applied):
            sys.exit("\n".join([f"seed {seed}: {judged.executions} executions", *judged.violations]))
        hits += len(judged.applied)
        busy += sum(count > 0 for count in judged.lost_per_kill.values())
        worst = max([worst, *judged.lost_per_kill.values()])
    how = ", starved" if "--starved" in sys.argv else ""
    figures.note("F2", f"attempts failed per kill{how}", "exactly 1 (0 if idle)", f"{worst} at most", hits, _command())
    return f"0 lost, 0 double, 0 wrong, 0 hang; {hits} kills, {busy} of busy workers"


def scenario(name: str) -> Callable[[int], str]:
    def measured(trials: int) -> str:
        if not SCENARIOS.exists():
            sys.exit(f"{SCENARIOS} is not there")
        act = getattr(load(SCENARIOS), name)
        seconds = [act(seed) for seed in range(trials)]
        left = sum(getattr(each, "survivors", 0) for each in seconds)
        return f"{left} left; {spread(seconds)}"

    return measured


def nothing_named(trials: int) -> str:
    """F9: what has a name in shared memory or the temporary directory after the coordinator was killed."""
    act, left = load(SCENARIOS).kill_coordinator_at_random, 0
    with tempfile.TemporaryDirectory() as folder:
        before_us = {"TMPDIR": os.environ["TMPDIR"]} if "TMPDIR" in os.environ else {}
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        try:
            for seed in range(trials):
                before = {name for name in os.listdir("/dev/shm") if "dremioframe" in name}
                act(seed)
                left += len({name for name in os.listdir("/dev/shm") if "dremioframe" in name} - before)
                left += sum("dremioframe" in name for name in os.listdir(folder))
        finally:
            del os.environ["TMPDIR"]
            os.environ.update(before_us)
            tempfile.tempdir = None
    if left:
        sys.exit(f"{left} files were left behind")
    return "0 segments, 0 files"


def soaked(trials: int) -> str:
    """F10 and F11."""
    done = soak.warm_soak(trials, trials // 10)
    if problems := done.problems():
        sys.exit("\n".join(problems))
    figures.note(
        "F11",
        "memory slope over warm runs",
        "at most 50 B a run, 0 blocks",
        f"{done.slope:.0f} ± {done.half:.0f} B a run, {done.blocks:+} blocks in {done.traced_runs} runs",
        trials,
        f"{COMMAND} --figure F10",
    )
    return "0 descriptors, threads, children, segments"


FIGURES = {
    "F1": Figure("outcomes under random SIGKILL of workers, 10,000 tasks a seed", "0 lost or double", 30, kills),
    "F3": Figure(
        "SIGKILL of a worker until its attempt's end is recorded",
        "p50 5 ms, p99 50 ms",
        300,
        lambda trials: spread(timings.detection(trials)),
    ),
    "F4": Figure(
        "SIGKILL until the next task runs on the new worker",
        "p99 100 ms",
        300,
        lambda trials: spread(timings.replacement(trials)),
    ),
    "F5": Figure(
        "deadline until the process is gone, no grace: Python loop, C loop, SIGTERM ignored, stopped",
        "p99 100 ms, max 500 ms, all killed",
        300,
        lambda trials: spread(timings.overtime(trials)),
    ),
    "F6": Figure("tasks that take their time-out ± 2 ms", "one outcome each", 10_000, timings.photo_finish),
    "F7": Figure("coordinator killed, until no process is left", "1 s", 300, scenario("kill_coordinator_at_random")),
    "F8": Figure("fork server killed, until no process is left", "2 s", 300, scenario("kill_zygote")),
    "F8b": Figure("coordinator and fork server killed", "2 s", 300, scenario("kill_both")),
    "F8bb": Figure("coordinator, fork server and its parent killed", "counted", 300, scenario("kill_all_guards")),
    "F9": Figure("named segments and temporary files after that", "0", 300, nothing_named),
    "F10": Figure("what one process owns after warm runs, against before", "nothing more", 10_000, soaked),
    "F15": Figure("mutated frames into the coordinator's decoders", "0 hangs or errors", 10**6, counts.fuzzed_frames),
    "F15b": Figure("hostile packets of real workers", "0 harmed", 10_000, counts.hostile_packets),
    "F16": Figure(
        "values that cannot travel, or fight back (section P)", "all pass", 1, lambda _: counts.tests_named(r"p\d+")
    ),
    "F17": Figure(
        "the Nth call of a kind fails, N = 1, 2, 3, ... until a run makes no more",
        "no hang, no leak, named",
        1,
        lambda _: counts.each_call(),
    ),
    "F18": Figure("Ctrl-C once, until all is gone", "grace + 1 s", 300, scenario("interrupt_once")),
    "F18b": Figure("Ctrl-C twice, until all is gone", "0.5 s", 300, scenario("interrupt_twice")),
    "F20": Figure("events on the virtual clock, invariants after each", "0 violations", 10**6, counts.machine_steps),
    "F21": Figure(
        "a chain declared and compiled, and a tenth of it run", "5 s, 1 kB a task", 10**6, counts.without_recursion
    ),
    "F24": Figure("lines of the catalogue with a test of their name", "all", 146, counts.catalogue),
    "F25": Figure(
        "coordinator stopped, wall clock a day off: time-outs", "0 false, 0 missed", 100, timings.stopped_clock
    ),
    "F25b": Figure(
        "coordinator stopped for half a minute", "0 false, 0 missed", 5, lambda n: timings.stopped_clock(n, 30.0)
    ),
}
COMMAND = "python -m tools.trials"


def main() -> None:
    from loguru import logger

    logger.remove()
    # A shell that starts this in the background, or nohup, has it ignore what trials send and children inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    parser = argparse.ArgumentParser(prog="python -m tools.trials", description=__doc__)
    parser.add_argument("--figure", action="append", choices=FIGURES, help="may be given several times")
    parser.add_argument("--trials", type=int, help="instead of each figure's own number")
    parser.add_argument("--starved", action="store_true")
    options = parser.parse_args()
    for name in options.figure or FIGURES:
        if not options.starved:
            _measure(name, options.trials, "")
            continue
        cores = os.sched_getaffinity(0)
        with starved(max(cores)):
            os.sched_setaffinity(0, {max(cores)})
            _measure(name, options.trials, ", starved")
            os.sched_setaffinity(0, cores)


def _measure(name: str, trials: int | None, how: str) -> None:
    figure = FIGURES[name]
    count = trials or figure.trials
    began = time.monotonic()
    result = figure.measured(count)
    figures.note(name.rstrip("b"), figure.measure + how, figure.goal, result, count, _command())
    print(f"  {time.monotonic() - began:.1f} s", flush=True)


def _command() -> str:
    return shlex.join(["python", "-m", "tools.trials", *sys.argv[1:]])


if __name__ == "__main__":
    main()
