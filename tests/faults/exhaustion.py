"""The Nth call of one kind fails in one of the three processes: N = 1, 2, 3, ... until a run does not come that far.

``exhaust(place, call)`` goes through all N, or those it is given; the suite leaves some out where they are many,
`make chaos` has them all. The command line takes both, or all::

    python tests/faults/exhaustion.py --place worker --call mmap
    python tests/faults/exhaustion.py
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

import psutil
import scarcity

from dremioframe.orchestration import OrchestrationError, Pipeline, ProcessExecutor, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PLACES = ("coordinator", "zygote", "worker")
#: The kinds of calls that a run makes in each of them.
CALLS = {
    "coordinator": (
        "open", "socketpair", "memfd_create", "pwrite", "pwritev", "mmap", "posix_spawn", "send", "sendmsg", "register",
        "epoll", "pidfd_open", "eventfd", "eventfd_write", "truncate",
    ),
    "zygote": ("open", "fork", "sendmsg", "register", "epoll", "pidfd_open"),
    "worker": ("open", "memfd_create", "pwritev", "mmap", "send", "sendmsg"),
}  # fmt: skip
SETTLE_S = 5.0
RUN_LIMIT_S = 60.0

#: What the processes of a pool hold after a run without a fault, by their depth below the coordinator.
_usual: dict[int, Counter[str]] = {}


def _pipeline() -> Pipeline:
    pipeline = Pipeline("scarce")
    long, again = Task("long", scarcity.long_result), Task("again", scarcity.fail_once, retries=1, retry_delay=0.01)
    failing, reader = Task("fails", scarcity.fail), Task("reads", scarcity.read)
    for each in (long, again, failing, reader):
        pipeline.add_task(each)
    long.set_downstream(reader)
    return pipeline


def _expected(name: str, run) -> bool:
    values = {"again": 2, "reads": 300_000, "long": scarcity.long_result()}
    if name == "fails":
        return run.tasks[name].status == "FAILED" and "as it should" in str(run.tasks[name].error)
    return name in run and run[name] == values[name]


# ---------------------------------------------------------------------------------------------------------------- leaks


def _belongings() -> set[str]:
    owned = {f"thread {thread.ident} {thread.name}" for thread in threading.enumerate()}
    for fd in os.listdir("/proc/self/fd"):
        try:
            owned.add(f"fd {fd} {os.stat(int(fd)).st_ino} {os.readlink(f'/proc/self/fd/{fd}')}")
        except OSError:
            continue
    owned |= {f"child {child.pid}" for child in psutil.Process().children(recursive=True)}
    maps = Path("/proc/self/maps").read_text().splitlines()
    return owned | {f"mapped {line}" for line in maps if "memfd:" in line}


def _check_left_over(before: set[str], what: str) -> None:
    deadline = time.monotonic() + SETTLE_S
    while left := _belongings() - before:
        assert time.monotonic() < deadline, f"{what}: left behind: {sorted(left)}"
        gc.collect()
        time.sleep(0.01)


def _below(process: psutil.Process, depth: int = 1):
    """(depth, process id) of all descendants: sentry, fork server, workers."""
    for child in process.children():
        yield depth, child.pid
        yield from _below(child, depth + 1)


def _held(pid: int) -> Counter[str]:
    """How many descriptors and mapped segments of each kind; of which number does not matter."""
    try:
        links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
        mapped = [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "memfd:" in line]
    except OSError:
        return Counter()  # it has just ended, or closed one
    held = Counter(re.sub(r"\d+", "N", link) for link in links)
    held["mapped"] = len(mapped)
    return held


def learn_the_usual() -> None:
    """Run without a fault: everything that is imported late, and what the pool's processes hold afterwards."""
    _usual.clear()
    with ProcessExecutor(1, preload=["scarcity_preload"]) as executor:
        for _ in range(2):
            _pipeline().run(context={"given": bytes(100_000)}, executor=executor)
            for depth, pid in _below(psutil.Process()):
                _usual[depth] = _usual.get(depth, Counter()) | _held(pid)


def _surplus() -> list[str]:
    held = ((depth, pid, _held(pid) - _usual[depth]) for depth, pid in _below(psutil.Process()))
    return [f"process {pid}, {depth} below: {dict(more)}" for depth, pid, more in held if more]


def _check_held(executor: ProcessExecutor, claim: str, what: str) -> None:
    """Neither fork server nor workers hold more than usual, while the pool is still open.

    What only a collection frees is no leak: the worker is asked for one.
    """
    scarcity.is_looking = True
    truce = Path(claim + scarcity.TRUCE)
    truce.touch()
    try:
        tidy = Pipeline("tidy").add_task(Task("collect", gc.collect))
        assert tidy.run(executor=executor, timeout=RUN_LIMIT_S).status == "SUCCESS", f"{what}: the pool is of no use"
        deadline = time.monotonic() + SETTLE_S
        while left := _surplus():
            assert time.monotonic() < deadline, f"{what}: held before the pool was closed: {left}"
            time.sleep(0.01)
    finally:
        truce.unlink()
        scarcity.is_looking = False


# ----------------------------------------------------------------------------------------------------------------- runs


def once(place: str, call: str, nth: int) -> tuple[bool, str]:
    """One run in which the Nth call fails; gives whether it came that far, and what became of it."""
    what = f"{place}:{call}:{nth}"
    before = _belongings()
    with tempfile.TemporaryDirectory() as folder:
        claim = f"{folder}/claim"
        os.environ[scarcity.VARIABLE] = f"{what}:{claim}"
        began = time.monotonic()
        try:
            told = _run(place, call, nth, claim)
        finally:
            del os.environ[scarcity.VARIABLE]
        took = time.monotonic() - began
        reached = os.path.exists(claim)
    _check_left_over(before, what)
    assert took < RUN_LIMIT_S, f"{what}: took {took:.1f} s"
    if told and not reached:
        raise AssertionError(f"{what}: nothing has failed, and yet: {told}")
    return reached, f"{took:.2f} s {told}"


def _run(place: str, call: str, nth: int, claim: str) -> str:
    """What went wrong, in words, or nothing; raises if it does not say what was short."""
    what = f"{place}:{call}:{nth}"
    disarm = scarcity.arm(place, call, nth, claim) if place == "coordinator" else None
    wrong: list[BaseException | None] = []
    names: list[str] = []
    try:
        with ProcessExecutor(1, preload=["scarcity_preload"], kill_grace_s=0.2) as executor:
            try:
                run = _pipeline().run(context={"given": bytes(100_000)}, executor=executor, timeout=RUN_LIMIT_S)
            finally:
                _check_held(executor, claim, what)
            assert run.status != "CANCELLED", f"{what}: hangs"
            for name in run.tasks:
                if not _expected(name, run):
                    names.append(name)
                    wrong.append(run.tasks[name].error)
    except (OSError, OrchestrationError) as error:
        wrong.append(error)
    finally:
        if disarm is not None:
            disarm()
    told = [_named(error, scarcity.ERRORS[call], what) for error in wrong if error is not None]
    # What was not run because of an error before it has none of its own.
    assert bool(wrong) == bool(told), f"{what}: {names} have no values, and nobody says why"
    return "; ".join(told)


def _named(error: BaseException, code: int, what: str) -> str:
    """The error in words, which have to be those of what this very call has failed with."""
    text = f"{type(error).__name__}: {error}"
    named = getattr(error, "errno", None) == code or os.strerror(code).casefold() in text.casefold()
    assert named, f"{what}: an error that does not name what was short ({os.strerror(code)}): {text}"
    return text


def sparse() -> Iterator[int]:
    """1, 2, 3, 5, 8, 12, ...: for kinds of which a run makes many calls, and not the same number everywhere."""
    nth = 1
    while True:
        yield nth
        nth += -(-nth // 2)


def exhaust(place: str, call: str, numbers: Iterable[int] | None = None, *, verbose: bool = False) -> int:
    """Run with N = 1, 2, 3, ..., or each of ``numbers``, until a run passes without reaching N.

    Returns:
        How many of the runs came as far as their N.
    """
    if not _usual:
        learn_the_usual()
    reached = 0
    for nth in numbers or itertools.count(1):
        came, told = once(place, call, nth)
        if verbose:
            print(f"{place}:{call}:{nth} {'' if came else 'not '}reached; {told}", flush=True)
        if not came:
            break
        reached += 1
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", choices=PLACES, action="append")
    parser.add_argument("--call", choices=scarcity.CALLS, action="append")
    parser.add_argument("--nth", type=int, action="append")
    parser.add_argument("--quiet", action="store_true", help="say only how many calls were reached")
    arguments = parser.parse_args()
    from loguru import logger

    logger.remove()
    failed = total = 0
    for place in arguments.place or PLACES:
        for call in arguments.call or CALLS[place]:
            try:
                reached = exhaust(place, call, arguments.nth, verbose=not arguments.quiet)
            except AssertionError as error:
                failed += 1
                print(f"FAILED {error}", flush=True)
                continue
            total += reached
            if not arguments.quiet:
                print(f"{place}:{call}: {reached} reached", flush=True)
            if not reached and arguments.nth is None:
                failed += 1
                print(f"FAILED {place} makes no call of {call}", flush=True)
    print(f"{total} calls failed, one a run", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
