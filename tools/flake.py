"""``make flake``: tests of processes and races again and again, as the machine is and starved; a failure ends it.

Starved is one core, shared with a program that does nothing but turn. A hang is a failure too: each test has its
watchdog.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

from tools import figures

ROOT = Path(__file__).resolve().parent.parent
RACES = ["tests/pool", "tests/executors", "tests/contract", "tests/faults"]
WATCHDOG = "Stacks of this process and its descendants"


@contextmanager
def starved(core: int) -> Iterator[list[str]]:
    """What to put before a command so that it runs on that core, beside a spinner."""
    spinner = subprocess.Popen(["taskset", "-c", str(core), sys.executable, "-S", "-c", "while True: pass"])
    try:
        yield ["taskset", "-c", str(core)]
    finally:
        spinner.kill()
        spinner.wait()


def repeat(name: str, tests: list[str], times: int, before: list[str], limit_s: float) -> None:
    for number in range(1, times + 1):
        began = time.monotonic()
        command = [*before, sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
        try:
            run = subprocess.run(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired as expired:
            sys.exit(f"{(expired.output or b'').decode(errors='replace')}\n{name}, {number}: no end in {limit_s:g} s")
        output = run.stdout.decode(errors="replace")
        print(
            f"{name} {number}/{times}: {time.monotonic() - began:.0f} s, {output.strip().splitlines()[-1]}", flush=True
        )
        if run.returncode:
            hang = ", a watchdog hit" if WATCHDOG in output else ""
            sys.exit(f"{output}\n{name}, {number} of {times}: failed with {run.returncode}{hang}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make flake ARGS=...", description=__doc__)
    parser.add_argument("--times", type=int, default=50, help="of the tests of processes and races, each way")
    parser.add_argument("--suite", type=int, default=3, help="of the whole suite, each way")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds for one repetition")
    parser.add_argument("tests", nargs="*", default=RACES)
    options = parser.parse_args()
    core = max(os.sched_getaffinity(0))
    for what, tests, times in (("races", options.tests, options.times), ("suite", [], options.suite)):
        repeat(what, tests, times, [], options.limit)
        if times:
            with starved(core) as before:
                repeat(f"{what}, starved", tests, times, before, options.limit)
    command = f"make flake ARGS='--times {options.times} --suite {options.suite}'"
    count = 2 * (options.times + options.suite)
    figures.note(
        "F22", "repetitions of races and suite, half of them starved", "0 failures", "0 failures", count, command
    )
    figures.note("F23", "watchdog hits in F22", "0", "0", count, command)


if __name__ == "__main__":
    main()
