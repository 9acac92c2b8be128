"""``make flake``: tests of processes and races again and again, as the machine is and starved; a failure ends it.

Starved is one core, shared with a program that does nothing but turn. As many repetitions as there are cores run side
by side, so none has the machine for itself. A hang is a failure too: each test has its watchdog.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

from tools import figures

ROOT = Path(__file__).resolve().parent.parent
RACES = [
    "tests/pool",
    "tests/engine/test_interrupts.py",
    "tests/executors/test_process_kills.py",
    "tests/faults/test_clean_machine.py",
    "tests/faults/test_debuggers.py",
    "tests/faults/test_hard_to_end.py",
    "tests/faults/test_leases_meet.py",
    "tests/faults/test_many_orphans.py",
    "tests/faults/test_o_patience.py",
    "tests/faults/test_orphaned_births.py",
    "tests/faults/test_os_machine.py",
    "tests/faults/test_os_starts.py",
    "tests/faults/test_r_engine.py",
    "tests/faults/test_r_pool.py",
    "tests/faults/test_r_ring.py",
    "tests/faults/test_r_stops.py",
    "tests/faults/test_u12_undead.py",
    # In these folders, but without a process or a race.
    "--ignore=tests/pool/test_frames.py",
    "--ignore=tests/pool/test_window.py",
    "--deselect=tests/pool/test_long_among_short.py::test_on_the_virtual_clock",
]
WATCHDOG = "Stacks of this process and its descendants"
PYTEST = [
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:cacheprovider",
    "--dist",
    "loadfile",
    "--max-worker-restart",
    "0",
    "-n",
    "4",  # most tests wait most of the time
]


class FlakeError(Exception):
    """A repetition failed; the text is all that it printed."""


@contextmanager
def starved(core: int) -> Iterator[list[str]]:
    """What to put before a command so that it runs on that core, beside a spinner."""
    spinner = subprocess.Popen(["taskset", "-c", str(core), sys.executable, "-S", "-c", "while True: pass"])
    try:
        yield ["taskset", "-c", str(core)]
    finally:
        spinner.kill()
        spinner.wait()


class Series:
    """Repetitions of the same tests, as many side by side as there are prefixes.

    Args:
        befores: What comes before the command, once for each that runs at a time.
        limit_s: How long one repetition may take.
    """

    def __init__(self, name: str, tests: list[str], befores: list[list[str]], limit_s: float) -> None:
        self.name = name
        self._commands = [[*before, *PYTEST, *tests] for before in befores]
        self._limit_s = limit_s
        self._over = threading.Event()

    def run(self, times: int) -> None:
        """Until one fails, and those beside it have ended.

        Raises:
            FlakeError: One failed, or did not end within the limit.
        """
        numbers = iter(range(1, times + 1))  # each is taken by one thread
        with ThreadPoolExecutor(len(self._commands)) as pool:
            ends = [pool.submit(self._go_on, command, numbers, times) for command in self._commands]
        failures = [str(failure) for ended in ends if (failure := ended.exception()) is not None]
        if failures:
            raise FlakeError("\n\n".join(failures))

    def _go_on(self, command: list[str], numbers: Iterator[int], times: int) -> None:
        try:
            while not self._over.is_set() and (number := next(numbers, None)) is not None:
                self._repeat(command, f"{self.name} {number}/{times}")
        except BaseException:
            self._over.set()
            raise

    def _repeat(self, command: list[str], name: str) -> None:
        began = time.monotonic()
        try:
            run = subprocess.run(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=self._limit_s, check=False
            )
        except subprocess.TimeoutExpired as expired:
            raise FlakeError(
                f"{(expired.output or b'').decode(errors='replace')}\n{name}: no end in {self._limit_s:g} s"
            ) from None
        output = run.stdout.decode(errors="replace")
        print(f"{name}: {time.monotonic() - began:.0f} s, {output.strip().splitlines()[-1]}", flush=True)
        if run.returncode:
            hang = ", a watchdog hit" if WATCHDOG in output else ""
            raise FlakeError(f"{output}\n{name}: failed with {run.returncode}{hang}")


def repeat(what: str, tests: list[str], times: int, way: str, options: argparse.Namespace) -> Callable[[], None]:
    """As many repetitions side by side as there are cores, starved ones on one core each.

    Returns:
        What notes the figures: not now, for then a page would be stale that the next repetitions check.

    Raises:
        FlakeError: One failed.
    """
    began, cores = time.monotonic(), sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        befores = [stack.enter_context(starved(core)) if way == "starved" else [] for core in cores]
        Series(f"{what}, {way}", tests, befores, options.limit).run(times)
    took = f"0 failures, 0 watchdog hits; {(time.monotonic() - began) / 60:.0f} min"
    measure = what + (", starved" if way == "starved" else "")
    command = f"make flake ARGS='--times {options.times} --suite {options.suite}'"

    def note() -> None:
        for figure, goal in (("F22", "0 failures"), ("F23", "0 hangs")):
            figures.note(figure, measure, goal, took, times, command)

    return note


def main() -> None:
    parser = argparse.ArgumentParser(prog="make flake ARGS=...", description=__doc__)
    parser.add_argument("--times", type=int, default=50, help="of the tests of processes and races, each way")
    parser.add_argument("--suite", type=int, default=3, help="of the whole suite, each way")
    parser.add_argument("--way", choices=("starved", "normal"), help="only one of both")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds for one repetition")
    parser.add_argument("tests", nargs="*", default=RACES)
    options = parser.parse_args()
    with ExitStack() as at_end:  # whatever comes later, what was seen is noted
        for what, tests, times in (
            ("tests of processes and races", options.tests, options.times),
            ("the whole suite", [], options.suite),
        ):
            for way in ("starved", "normal"):
                if times and options.way in {None, way}:
                    try:
                        at_end.callback(repeat(what, tests, times, way, options))
                    except FlakeError as flake:
                        sys.exit(str(flake))


if __name__ == "__main__":
    main()
