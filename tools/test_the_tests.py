"""Switch every protection off, one after the other, and demand that a test sees it.

What is promised about a fault stands in ``tests/faults/promises/*.toml``, one table per fault id::

    [R3]
    fault = "..."
    promise = "..."
    protection = "lifecycle.drain"    # the failpoint that switches the protection off; or a list of them
    # or: unswitchable = "why there is no single switch"; or: waiting = "why there is no test yet"

A test belongs to an id by its name, ``test_r3_...``. For each id with a protection its tests run with that failpoint
``off``, in a pytest of its own whose watchdog is short, and one of them at least has to fail. Before that all of them
have to pass with nothing off.

What the test said that failed is printed with it: whether it saw what it should is the reader's to judge. Processes
that a run has left behind are told by a mark in their environment, and ended.

``python tools/test_the_tests.py [ID ...] [--no-baseline]``
"""

from __future__ import annotations

import argparse
import os
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parent.parent
PROMISES = ROOT / "tests" / "faults" / "promises"
PACKAGE = ROOT / "dremioframe"

AT_ONCE = 2
WATCHDOG_S = 30
LIMIT_S = 300

_SAID_LETTERS = 160

#: Endings of a pytest run with a protection off.
SEEN, UNSEEN, TROUBLE = "seen", "NOT SEEN", "TROUBLE"
_PASSED, _FAILED = 0, 1

#: In the environment of all processes of one pytest run; its value is that run's own.
MARK = "DREMIOFRAME_TEST_THE_TESTS"


#: The sections in which every line has to say which failpoint switches its protection off.
SWITCHED = "UPOR"


class Promise(NamedTuple):
    """What is promised about one fault, and what switches it off."""

    id: str
    protections: tuple[str, ...]
    reason: str

    @classmethod
    def of(cls, name: str, table: dict[str, Any]) -> Promise:
        given = table.get("protection", ())
        protections = (given,) if isinstance(given, str) else tuple(given)
        reason = "; ".join(f"{key}: {table[key]}" for key in ("unswitchable", "waiting") if key in table)
        return cls(name, protections, reason)


class Verdict(NamedTuple):
    """What came of one protection."""

    promise: Promise
    protection: str
    outcome: str
    detail: str


def read_promises(folder: Path = PROMISES) -> tuple[list[Promise], list[str]]:
    """All promises in the order of their ids, and what is wrong with how they are written down."""
    tables: dict[str, dict[str, Any]] = {}
    complaints = []
    for path in sorted(folder.glob("*.toml")):
        for name, table in tomllib.loads(path.read_text(encoding="utf-8")).items():
            if name in tables:
                complaints.append(f"{name} is promised twice, the second time in {path.name}")
            complaints += [f"{name} says nothing under {key!r}" for key in ("fault", "promise") if not table.get(key)]
            said = len({"protection", "unswitchable", "waiting"} & set(table))
            if said > 1 or (not said and name[0] in SWITCHED):
                complaints.append(f"{name} needs one of protection, unswitchable, waiting")
            tables[name] = table
    promises = [Promise.of(name, table) for name, table in tables.items()]
    return sorted(promises, key=lambda promise: (promise.id[0], int(promise.id[1:] or 0))), complaints


def points_in_source(folder: Path = PACKAGE) -> set[str]:
    """Names of all failpoints in the package."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        if path.name != "failpoints.py":  # the examples in its header
            found.update(re.findall(r"""hit\(\s*["']([\w.]+)["']""", path.read_text(encoding="utf-8")))
    return found


def tests_by_id() -> dict[str, list[str]]:
    """Node ids of tests by the fault id in their name."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if listing.returncode != _PASSED:
        raise SystemExit(f"the tests cannot be collected:\n{listing.stdout}{listing.stderr}")
    found: dict[str, list[str]] = defaultdict(list)
    for line in listing.stdout.splitlines():
        node = line.partition("[")[0]  # all parameters; odd characters in an id are not worth the quoting
        if match := re.search(r"::test_((?:[a-z]\d+_)+)", node):
            for name in match[1].upper().split("_")[:-1]:
                if node not in found[name]:
                    found[name].append(node)
    return found


def complain(promises: Iterable[Promise], tests: dict[str, list[str]], points: set[str]) -> list[str]:
    """What cannot be run at all."""
    complaints = []
    for promise in promises:
        missing = [name for name in promise.protections if name not in points]
        complaints += [f"{promise.id}: no failpoint {name!r} in the package" for name in missing]
        if not promise.reason.startswith("waiting") and not tests.get(promise.id):
            complaints.append(f"{promise.id}: no test named test_{promise.id.lower()}_...")
    return complaints


def run_pytest(nodes: list[str], *options: str, off: str = "", limit_s: float = LIMIT_S) -> tuple[int | None, str]:
    """(exit code, or None if it had to be ended; output) of a pytest of its own."""
    environment = {**os.environ, "DREMIOFRAME_TEST_WATCHDOG_S": str(WATCHDOG_S)}
    environment["DREMIOFRAME_FAILPOINTS"] = f"{off}=off" if off else ""
    environment[MARK] = mark = f"{os.getpid()}-{time.monotonic_ns()}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", *options, *nodes]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # not reaped yet: the number is its own
        end_marked(mark)  # they hold the pipe
        output, _ = process.communicate()
        return None, output
    end_marked(mark)
    return process.returncode, output


def end_marked(mark: str) -> int:
    """End all processes of the run with this mark that are still there; returns how many there were."""
    ended = 0
    while found := [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if _is_marked(pid, mark)]:
        for pid in found:
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                continue
            try:
                if _is_marked(pid, mark):  # still, or its number would be another's by now
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    ended += 1
                    select.select([pidfd], [], [], 5)
            except ProcessLookupError:
                pass
            finally:
                os.close(pidfd)
    return ended


def _is_marked(pid: int, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def judge(code: int | None, output: str) -> tuple[str, str]:
    """What it means that pytest has ended like this although a protection is off."""
    if code == _FAILED and "runs longer than" in output:
        return SEEN, "the watchdog ended a test that hung"
    if code == _FAILED:
        failed = re.findall(r"^FAILED \S*?::(\S+)", output, re.MULTILINE) or re.findall(
            r"^ERROR \S*?::(\S+)", output, re.MULTILINE
        )
        return (SEEN, f"{failed[0]}: {_said(output)}") if failed else (TROUBLE, _last_line(output))
    if code == _PASSED:
        return UNSEEN, "all its tests pass without it"
    if code is None:
        return TROUBLE, f"pytest had not ended after {LIMIT_S} s"
    if code < 0:
        return SEEN, f"pytest was ended by {signal.Signals(-code).name}"
    return TROUBLE, f"pytest ended with {code}: {_last_line(output)}"


def _said(output: str) -> str:
    """The line in which pytest tells where the first test failed, and by which assertion or error."""
    told = re.search(r"^(?:E +|(?:/|\w)\S*:\d+: )(.+)", output, re.MULTILINE)
    return told[1][:_SAID_LETTERS] if told else "it does not say why"


def _last_line(output: str) -> str:
    return (output.strip().splitlines() or ["no output"])[-1]


def try_without(promise: Promise, protection: str, nodes: list[str]) -> Verdict:
    """Run the tests of a promise with its protection off."""
    began = time.monotonic()
    outcome, detail = judge(*run_pytest(nodes, "-x", off=protection))
    return Verdict(promise, protection, outcome, f"{detail} ({time.monotonic() - began:.0f} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", nargs="*", help="only these faults, e.g. R3")
    parser.add_argument("--no-baseline", action="store_true", help="take it for granted that all tests pass as it is")
    arguments = parser.parse_args()

    promises, complaints = read_promises()
    wanted = {name.upper() for name in arguments.ids}
    complaints += [f"{name} is not promised anywhere" for name in sorted(wanted - {each.id for each in promises})]
    promises = [promise for promise in promises if not wanted or promise.id in wanted]
    points, tests = points_in_source(), tests_by_id()
    complaints += complain(promises, tests, points)
    jobs = [
        (promise, name, tests[promise.id])
        for promise in promises
        for name in promise.protections
        if name in points and tests.get(promise.id)
    ]
    if jobs and not arguments.no_baseline:
        nodes = sorted({node for *_, nodes in jobs for node in nodes})
        print(f"{len(nodes)} tests with everything in place ...", flush=True)
        code, output = run_pytest(nodes, "-n", str(AT_ONCE), "--dist", "loadfile", limit_s=10 * LIMIT_S)
        if code != _PASSED:
            complaints.append(f"the tests do not pass as it is:\n{output[-4000:]}")
    bad = print_verdicts(jobs)
    print_rest(promises)
    for complaint in complaints:
        print(f"!! {complaint}")
    print(f"{len(jobs)} protections switched off, {bad} not seen; {len(complaints)} complaints")
    sys.exit(1 if bad or complaints else 0)


def print_verdicts(jobs: list[tuple[Promise, str, list[str]]]) -> int:
    """Run and print, in order; returns how many were not seen."""
    bad = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for verdict in pool.map(lambda job: try_without(*job), jobs):
            bad += verdict.outcome != SEEN
            print(f"{verdict.promise.id:4} {verdict.protection:28} {verdict.outcome:8} {verdict.detail}", flush=True)
    return bad


def print_rest(promises: list[Promise]) -> None:
    """Those without a switch, and why."""
    for promise in promises:
        if promise.reason:
            print(f"{promise.id:4} {promise.reason}")


if __name__ == "__main__":
    main()
