"""The Nth call of one kind fails in one of the three processes: N = 1, 2, 3, ... until a run does not come that far.

``exhaust(place, call)`` is for `make chaos`; the command line takes both, or all::

    python tests/faults/exhaustion.py --place worker --call mmap
    python tests/faults/exhaustion.py
"""

from __future__ import annotations

import argparse
import errno
import gc
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import psutil
import scarcity

from dremioframe.orchestration import OrchestrationError, Pipeline, ProcessExecutor, Task

PLACES = ("coordinator", "zygote", "worker")
SETTLE_S = 5.0
RUN_LIMIT_S = 60.0
#: What an error may call the thing that was short, whoever tells of it.
_NAMES = (*map(os.strerror, set(scarcity._ERRORS.values())), "descriptor", "open files")


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


def once(place: str, call: str, nth: int) -> tuple[bool, str]:
    """One run in which the Nth call fails; gives whether it came that far, and what became of it."""
    what = f"{place}:{call}:{nth}"
    before = _belongings()
    with tempfile.TemporaryDirectory() as folder:
        claim = f"{folder}/claim"
        os.environ[scarcity.VARIABLE] = f"{what}:{claim}"
        disarm = scarcity.arm(place, call, nth, claim) if place == "coordinator" else None
        began = time.monotonic()
        try:
            told = _run(what)
        finally:
            if disarm is not None:
                disarm()
            del os.environ[scarcity.VARIABLE]
        took = time.monotonic() - began
        reached = os.path.exists(claim)
    _check_left_over(before, what)
    assert took < RUN_LIMIT_S, f"{what}: took {took:.1f} s"
    if told and not reached:
        raise AssertionError(f"{what}: nothing has failed, and yet: {told}")
    return reached, f"{took:.2f} s {told}"


def _run(what: str) -> str:
    """What went wrong, in words, or nothing; raises if it does not say what was short."""
    wrong: list[BaseException | None] = []
    names: list[str] = []
    try:
        with ProcessExecutor(1, preload=["scarcity_preload"], kill_grace_s=0.2) as executor:
            run = _pipeline().run(context={"given": bytes(100_000)}, executor=executor, timeout=RUN_LIMIT_S)
            assert run.status != "CANCELLED", f"{what}: hangs"
            for name in run.tasks:
                if not _expected(name, run):
                    names.append(name)
                    wrong.append(run.tasks[name].error)
    except (OSError, OrchestrationError) as error:
        wrong.append(error)
    # What was not run because of an error before it has none of its own.
    told = [f"{type(error).__name__}: {error}" for error in wrong if error is not None]
    for error, text in zip([error for error in wrong if error is not None], told, strict=True):
        named = (isinstance(error, OSError) and error.errno in errno.errorcode) or any(name in text for name in _NAMES)
        assert named, f"{what}: an error that does not name what was short: {text}"
    assert bool(wrong) == bool(told), f"{what}: {names} have no values, and nobody says why"
    return "; ".join(told)


def exhaust(place: str, call: str, numbers: list[int] | None = None, *, verbose: bool = False) -> int:
    """Run with N = 1, 2, 3, ... until a run passes without reaching N, or for each of ``numbers``.

    Returns:
        How many of the runs came as far as their N.
    """
    reached = 0
    for nth in numbers or range(1, 10_000):
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
    arguments = parser.parse_args()
    from loguru import logger

    logger.remove()
    failed = 0
    exhaust("coordinator", "eventfd", [10_000])  # everything that is imported late
    for place in arguments.place or PLACES:
        for call in arguments.call or scarcity.CALLS:
            try:
                print(f"{place}:{call}: {exhaust(place, call, arguments.nth, verbose=True)} reached", flush=True)
            except AssertionError as error:
                failed += 1
                print(f"FAILED {error}", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
