"""Starts the coordinator of a case and hurts it and its descendants by a fault script; touches nobody else.

Every process is signalled through a pidfd that was opened while it was seen as a descendant, and seen as one again
afterwards, so no number can have been used again. What outlives its parent falls to the conductor while a trial runs,
so nobody has to have been seen to be found.

What lives here: processes and signals. What may not: what is right (``verify``).
"""

from __future__ import annotations

import ctypes
import heapq
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .scripts import KILLS_OF_ALL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .scripts import Fault

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 90.0
GONE_S = 2.0
SPIN = "while True: pass"
_PR_SET_CHILD_SUBREAPER = 36


class Trial(NamedTuple):
    """What happened.

    Attributes:
        runs: What the coordinator told of each run; empty, all or one, if it did not come to that.
        applied: The faults that hit something.
        hits: What they hit: (what, pid).
        problems: What the conductor saw go wrong.
        survivors: Children of tasks that were left, where the contract excuses it: their processes.
    """

    runs: list[dict[str, Any]]
    applied: list[Fault]
    hits: list[tuple[str, int]]
    problems: list[str]
    survivors: set[int]


def conduct(seed: int, script: Iterator[Fault], folder: Path, tasks: int = 0, limit_s: float = LIMIT_S) -> Trial:
    """Run one case under one script.

    Args:
        folder: An empty directory for what the coordinator writes.
        tasks: 0 for a case with everything in it, else so many short tasks.
    """
    before = set(_children(os.getpid()))
    _adopt_orphans(on=True)
    try:
        conductor = _Conductor(_start(seed, tasks, folder), before)
        try:
            problems = conductor.play(script, time.monotonic() + limit_s)
        finally:
            conductor.end()
            left, excused = conductor.survivors()
    finally:
        _adopt_orphans(on=False)
    problems += left
    told = folder / "runs.json"
    runs = json.loads(told.read_text()) if told.exists() else []
    problems += [
        f"run {number} raised instead of telling how it ended"
        for number, run in enumerate(runs)
        if not run.get("tasks")
    ]
    if not runs or problems:
        problems.append("the coordinator said: " + (folder / "stderr").read_text(errors="replace")[-20_000:])
    return Trial(runs, conductor.applied, conductor.hits, problems, excused)


def _start(seed: int, tasks: int, folder: Path) -> subprocess.Popen[bytes]:
    with open(folder / "stderr", "wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "tools.chaos.coordinator", str(seed), str(tasks), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
        )


def _adopt_orphans(*, on: bool) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


class _Family(NamedTuple):
    sentries: list[int]
    zygotes: list[int]
    workers: list[int]
    grandchildren: list[int]


class _Conductor:
    def __init__(self, coordinator: subprocess.Popen[bytes], others: set[int]) -> None:
        self.pid = coordinator.pid
        self._others = {*others, coordinator.pid}  # children of ours that are none of the coordinator's
        self.coordinator = coordinator
        self.applied: list[Fault] = []
        self.hits: list[tuple[str, int]] = []
        self._sentry_of: dict[int, int] = {}  # fork servers ever seen
        self._seen: dict[int, int] = {}  # descendants ever seen, and a descriptor of each
        self._undo: list[tuple[float, int, int]] = []  # when, number, pidfd to continue (or -1: end of the starvation)
        self._spinner: subprocess.Popen[bytes] | None = None
        self._pidfd = -1

    def play(self, script: Iterator[Fault], limit: float) -> list[str]:
        """Until the coordinator ends; what went wrong."""
        assert self.coordinator.stdout
        output = self.coordinator.stdout.fileno()
        self._pidfd = os.pidfd_open(self.pid)  # an orphan may hold the pipe for longer than the coordinator lives
        said, began, fault = b"", 0.0, None
        while True:
            now = time.monotonic()
            if now > limit:
                return [f"no end within the limit\n{self._stacks()}"]
            hurting = said == b"go\n"
            if hurting and fault is None:
                fault = next(script, None)
            self._undo_due(now)
            moments = [limit, *(undo[0] for undo in self._undo[:1])]
            if fault is not None and hurting:
                if began + fault.at_s <= now:
                    self._apply(fault)
                    fault = None
                    continue
                moments.append(began + fault.at_s)
            heard_of = select.select([output, self._pidfd], [], [], max(0.0, min(moments) - now))[0]
            if output in heard_of:
                heard = os.read(output, 100)
                if not heard:
                    break
                began = began or time.monotonic()
                said += heard
            elif heard_of:
                break
        self.release()
        code = self.coordinator.wait(timeout=30)
        return [f"the coordinator ended with {code} after saying {said!r}"] if code or said != b"go\ndone\n" else []

    def release(self) -> None:
        for _, _, pidfd in self._undo:
            self._undo_one(pidfd)
        self._undo.clear()

    def end(self) -> None:
        """The coordinator's, if it has not ended by itself."""
        self.release()
        self.coordinator.kill()
        self.coordinator.wait()
        if self.coordinator.stdout:
            self.coordinator.stdout.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)

    def survivors(self) -> tuple[list[str], set[int]]:
        """I15: whoever was below the coordinator and is not gone soon after its end. They are ended, too.

        Where a fork server and its sentry were both killed, a task's child in a session of its own may stay, as the
        contract says: those are no problem.
        """
        deadline, left, excused = time.monotonic() + GONE_S, [], set[int]()
        killed = {pid for what, pid in self.hits if what in KILLS_OF_ALL}
        nobody_left = any(zygote in killed and sentry in killed for zygote, sentry in self._sentry_of.items())
        while orphans := set(_children(os.getpid())) - self._others:  # by the end of one, others may fall to us
            for pid in orphans:
                if _outlives(pid, deadline):
                    if nobody_left and _is_grandchild(pid):
                        excused.add(pid)
                    else:
                        left.append(f"process {pid} outlived its coordinator: {_read(pid, 'stat')}")
                    os.kill(pid, signal.SIGKILL)  # not reaped: the number is its own
                os.waitpid(pid, 0)
        for pidfd in self._seen.values():
            os.close(pidfd)
        self._seen.clear()
        return left, excused

    # ---------------------------------------------------------------------------------------------------------- faults

    def _apply(self, fault: Fault) -> None:
        family = self._family()
        match fault.what:
            case "starve":
                self._starve(fault, [self.pid, *family.sentries, *family.zygotes, *family.workers])
            case "stop_coordinator":
                self._hit(fault, [self.pid])
            case "kill_sentry" | "stop_sentry":
                self._hit(fault, family.sentries)
            case "kill_zygote" | "stop_zygote":
                self._hit(fault, family.zygotes)
            case "kill_grandchild" | "stop_grandchild":
                self._hit(fault, family.grandchildren)
            case _:
                self._hit(fault, family.workers)

    def _family(self) -> _Family:
        """Who is below the coordinator now, each with a descriptor of ours."""
        family = _Family([], [], [], [])
        for sentry in self._know(self.pid):
            family.sentries.append(sentry)
            for child in self._know(sentry):  # the first that it ever has is its fork server, all others are orphans
                if sentry not in self._sentry_of.values():
                    self._sentry_of[child] = sentry
                if self._sentry_of.get(child) == sentry:
                    family.zygotes.append(child)
        for above in [*family.zygotes, *family.sentries]:
            below = [pid for pid in self._know(above) if pid not in family.zygotes]
            family.grandchildren.extend(pid for pid in below if _is_grandchild(pid))
            family.workers.extend(pid for pid in below if not _is_grandchild(pid))
        for worker in family.workers:
            family.grandchildren.extend(self._know(worker))
        return family

    def _know(self, above: int) -> list[int]:
        """The children of one process of which a descriptor is held: of these and of no later ones of their numbers."""
        for pid in _children(above):
            if pid in self._seen:
                continue
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                continue
            if pid in _children(above):
                self._seen[pid] = pidfd
            else:
                os.close(pidfd)
        return [pid for pid in _children(above) if pid in self._seen]

    def _hit(self, fault: Fault, candidates: list[int]) -> None:
        candidates = sorted(pid for pid in candidates if pid in self._seen or pid == self.pid)
        if not candidates:
            return
        pid = candidates[fault.which % len(candidates)]
        pidfd = self._pidfd if pid == self.pid else self._seen[pid]
        try:
            if fault.what.startswith("kill_stopped"):
                signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
            stops = fault.what.startswith("stop")
            signal.pidfd_send_signal(pidfd, signal.SIGSTOP if stops else signal.SIGKILL)
        except ProcessLookupError:
            return
        if stops:
            heapq.heappush(self._undo, (time.monotonic() + fault.for_s, len(self.applied), os.dup(pidfd)))
        self.applied.append(fault)
        self.hits.append((fault.what, pid))

    def _starve(self, fault: Fault, family: list[int]) -> None:
        if self._spinner is not None:
            return
        core = {min(os.sched_getaffinity(0))}
        for pid in family:
            _bind(pid, core)
        self._spinner = subprocess.Popen(["taskset", "-c", str(min(core)), sys.executable, "-S", "-c", SPIN])
        heapq.heappush(self._undo, (time.monotonic() + fault.for_s, len(self.applied), -1))
        self.applied.append(fault)

    def _undo_due(self, now: float) -> None:
        while self._undo and self._undo[0][0] <= now:
            self._undo_one(heapq.heappop(self._undo)[2])

    def _undo_one(self, pidfd: int) -> None:
        if pidfd >= 0:
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGCONT)
            except ProcessLookupError:
                pass
            os.close(pidfd)
            return
        if self._spinner is not None:
            self._spinner.kill()
            self._spinner.wait()
            self._spinner = None
        family = self._family()
        for pid in [self.pid, *family.sentries, *family.zygotes, *family.workers]:
            _bind(pid, os.sched_getaffinity(0))

    def _stacks(self) -> str:
        """The coordinator tells its own to the file of its errors; the kernel's view of the others."""
        self.coordinator.send_signal(signal.SIGCONT)
        self.coordinator.send_signal(signal.SIGUSR1)
        time.sleep(0.3)  # nothing tells when the dump is written, and the trial is lost anyway
        there = ((pid, stat) for pid in self._seen if (stat := _read(pid, "stat")))
        return "\n".join(f"{pid}: {stat[:60]} in {_read(pid, 'wchan')}" for pid, stat in there)


def _outlives(pid: int, deadline: float) -> bool:
    """Whether a child is alive at this time."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return not poll.poll(max(0, int((deadline - time.monotonic()) * 1000)))
    finally:
        os.close(pidfd)


def _bind(pid: int, cores: set[int]) -> None:
    try:
        os.sched_setaffinity(pid, cores)
    except ProcessLookupError:
        pass


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, _read(pid, f"task/{thread}/children").split())
    except OSError:
        pass
    return sorted(found)


def _is_grandchild(pid: int) -> bool:
    """An orphan that has fallen to the fork server, not a worker: tasks of a case start nothing but ``sleep``."""
    return _read(pid, "comm").strip() == "sleep"


def _read(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
