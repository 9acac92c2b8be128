"""A worker's arrival, its end, and what its end means for the calls it had.

An end is noticed by the worker's pidfd, or reported by the zygote, whichever is heard first; a worker that SIGKILL does
not end is taken for one that has ended. Then, in this order:
drain its inbox (what it has finished counts), take its unread calls back (they never started), classify the rest by
its page (the one it was running is lost, or stopped; any other was received and never started). What a worker says that
has sent nonsense is not believed: whatever it had received is lost. How it ended is the zygote's to say; casualties are
told when that is known, everything else and the free place at once.

What lives here: these steps. What may not: deciding to end a worker (``stopping``, ``intake``), or how many are needed
(``dispatch``).
"""

from __future__ import annotations

import os
import time
from functools import partial
from signal import SIGKILL

from .. import failpoints
from ..errors import ExecutorClosedError
from . import boot, memory, termination
from .events import CallLost, CallReturned, CallStopped
from .floor import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .capacity import Capacity
    from .desk import Desk
    from .floor import Floor
    from .intake import Intake
    from .shares import Share
    from .stopping import Stops
    from .worker_handle import WorkerHandle
    from .zygote_client import ZygoteClient

    #: Calls that had started when their worker died, and for how many seconds they had run, if that is known.
    Casualties = dict[int, float | None]

#: The zygote must have reported an end by then; it holds a report for half a second at most. If not, it is continued,
#: in case somebody has stopped it, and a little later it is broken.
_REPORT_LIMIT_S = 5.0
_CONTINUED_S = 1.0

#: A fork that was ordered must have happened by then, unless the zygote is still importing what it was told to preload.
_FORK_LIMIT_S = 10.0

#: An order of a fork for which the kernel had no buffers is given again after so long.
_ORDER_AGAIN_S = 0.01

#: A worker that does not get ready has so long to write where it is, before it is killed.
_DUMP_S = 0.2


class Lifecycle:
    """Arrivals and ends of one lease's workers.

    Attributes:
        due: When :meth:`expire` has to be called next.
        dying: How many ends are waiting to be reported.
    """

    __slots__ = ("_booting", "_capacity", "_casualties", "_continued", "_desk", "_floor", "_intake", "_oom", "_share",
                 "_stops", "_undead", "_unforked", "due")  # fmt: skip

    def __init__(
        self, floor: Floor, desk: Desk, intake: Intake, stops: Stops, capacity: Capacity, share: Share
    ) -> None:
        self._floor = floor
        self._desk = desk
        self._intake = intake
        self._stops = stops
        self._capacity = capacity
        self._share = share
        self._casualties: dict[WorkerHandle, tuple[Casualties, float]] = {}  # ended, not reported: (calls, limit)
        self._continued: ZygoteClient | None = None  # it has said nothing since it was
        self._undead: dict[int, int] = {}  # pidfds by the calls that they ran
        self._unforked: dict[WorkerHandle, float] = {}  # their process has not been heard of: limit
        self._booting: dict[WorkerHandle, float] = {}  # it has, and was not ready: limit
        self._oom = _OomEvidence()
        self.due = NEVER

    @property
    def dying(self) -> int:
        return len(self._casualties)

    def enlist(self, worker: WorkerHandle) -> None:
        """A worker is ours now."""
        self._floor.add(worker, partial(self._desk.serve, worker))
        self._desk.tell_room()
        now = time.monotonic()
        self._unforked[worker] = now + _FORK_LIMIT_S
        self.due = min(self.due, now + (_FORK_LIMIT_S if worker.is_ordered else _ORDER_AGAIN_S))
        self.look(worker)

    def dismiss(self, worker: WorkerHandle) -> None:
        """An empty worker is not ours any more."""
        self._floor.remove(worker)
        self._unforked.pop(worker, None)
        self._booting.pop(worker, None)
        worker.full = worker.silent = False
        self._capacity.give_back(worker, self._share)

    def look(self, worker: WorkerHandle) -> None:
        """Something about this worker was reported; what, is on its handle."""
        if worker in self._casualties:
            self._settle_if_known(worker)
        elif worker.incarnation not in self._floor.workers:
            return  # no longer ours
        elif worker.exit is not None or (worker.orphaned and worker.pidfd < 0):
            self.on_end(worker)
        elif worker.pidfd >= 0 and not self._floor.watches(worker.pidfd):
            del self._unforked[worker]
            if not worker.booted:
                self._booting[worker] = limit = time.monotonic() + boot.START_LIMIT_S
                self.due = min(self.due, limit)
            self._floor.watch(worker.pidfd, partial(self.on_end, worker))
            if worker.order is not None and not worker.order.killed:
                self._stops.proceed(worker)
            elif worker.condemned:
                self._floor.condemn(worker)

    def on_end(self, worker: WorkerHandle) -> None:
        """Its process has ended."""
        if worker.incarnation not in self._floor.workers:
            return
        if not (failpoints.armed and failpoints.hit("lifecycle.drain")):
            self._drain(worker)
        self._floor.remove(worker)
        self._unforked.pop(worker, None)
        self._booting.pop(worker, None)
        self._floor.take_back(worker)
        worker.ended_first = not worker.orphaned
        casualties = _casualties(worker)
        self._floor.events += [CallReturned(call_id) for call_id in worker.calls if call_id not in casualties]
        if worker.boot_error or not (casualties or worker.served or worker.condemned):
            self._capacity.slow_down()  # it ended for nothing; said before the place is free and taken again
        self._capacity.gone(worker, self._share)
        limit = time.monotonic() + _REPORT_LIMIT_S
        self._casualties[worker] = (casualties, limit)
        self.due = min(self.due, limit)
        if casualties and worker.order is None:
            self._replace()
        self._settle_if_known(worker)

    def give_up_undead(self, now: float) -> None:
        """Some have not ended by SIGKILL: the kernel keeps them. Their places are free; nobody waits for them."""
        killed = self._floor.killed
        for worker in [worker for worker, limit in killed.items() if limit <= now]:
            worker.undead = True
            self.on_end(worker)
        self._floor.killed_due = min(killed.values(), default=NEVER)

    def is_undead(self, call_id: int) -> bool:
        """Whether the process that was given up with this call is still there."""
        pidfd = self._undead.get(call_id)
        return pidfd is not None and not termination.has_ended(pidfd)

    def _replace(self) -> None:
        """Order the next worker before it is known how this one ended: a retry will want it, and a fork takes time.

        Whether there will be a retry is not known here; at worst a worker stays warm that nobody needs.
        """
        try:
            successor = self._capacity.acquire(self._share)
        except ExecutorClosedError:
            return  # ``wait`` finds that out too, and says so
        if successor is not None:
            self.enlist(successor)

    def _drain(self, worker: WorkerHandle) -> None:
        """What it had finished counts."""
        self._intake.drain(worker)
        while worker.unclaimed is not None:
            self._intake.give_up_claim(worker)
            self._intake.drain(worker)  # as does what came behind that one

    def expire(self, now: float) -> None:
        """Something that the zygote must have done or said by now is missing: then it never will."""
        if not all(worker.is_ordered for worker in self._unforked):
            self._capacity.order()
        silent = [worker for worker, (_, limit) in self._casualties.items() if limit <= now]
        unforked = [worker for worker, limit in self._unforked.items() if limit <= now]
        self._unforked.update(dict.fromkeys(unforked, now + _FORK_LIMIT_S))
        if silent or (unforked and self._capacity.must_fork(now)):
            self._press_zygote(silent, unforked, now)
        for worker in [worker for worker, limit in self._booting.items() if limit <= now]:
            self._end_boot(worker, now)
        limits = [limit for _, limit in self._casualties.values()]
        limits += [limit if worker.is_ordered else now + _ORDER_AGAIN_S for worker, limit in self._unforked.items()]
        self.due = min(*limits, *self._booting.values(), NEVER, NEVER)

    def _press_zygote(self, silent: list[WorkerHandle], unforked: list[WorkerHandle], now: float) -> None:
        """It does not say or do what it must: continue it, or, if that has not helped, end it."""
        zygote = self._capacity.zygote
        if zygote is not None and zygote is not self._continued:
            self._continued = zygote
            self._capacity.continue_zygote()
            self._unforked.update(dict.fromkeys(unforked, now + _CONTINUED_S))
            for worker in silent:
                self._casualties[worker] = self._casualties[worker][0], now + _CONTINUED_S
            return
        self._capacity.distrust_zygote()
        for worker in silent:
            worker.orphaned = worker.orphaned or "did not tell"
            self._settle_if_known(worker)

    def postpone(self, away_s: float) -> None:
        """Nobody was there to hear for so long, and who should have spoken may have been stopped, too."""
        self._capacity.postpone(away_s)
        for limits in (self._unforked, self._booting):
            limits.update({worker: limit + away_s for worker, limit in limits.items()})
        self._floor.killed.update({worker: limit + away_s for worker, limit in self._floor.killed.items()})
        for worker, (casualties, limit) in self._casualties.items():
            self._casualties[worker] = casualties, limit + away_s
        self.due += away_s

    def _end_boot(self, worker: WorkerHandle, now: float) -> None:
        """Its time to get ready is over: if it is not, have it write where it is, and then kill it."""
        if worker.booted:
            del self._booting[worker]
        elif not worker.boot_error:
            self._floor.take_back(worker)
            if worker.calls:  # one was received since the last look, so it is ready, and that will be heard
                self._booting[worker] = now + _DUMP_S
                return
            worker.boot_error = (
                f"a worker was not ready {boot.START_LIMIT_S:g} s after it was forked; an initializer that hangs?"
            )
            worker.condemned = True
            termination.ask_for_stacks(worker.pidfd)
            self._booting[worker] = now + _DUMP_S
        else:
            del self._booting[worker]
            self._floor.condemn(worker)

    def forget(self) -> None:
        """The lease is over: nobody wants to know any more."""
        for worker in self._casualties:
            self._capacity.settled(worker)
            worker.close()
        self._casualties.clear()
        for pidfd in self._undead.values():
            os.close(pidfd)
        self._undead.clear()

    def _settle_if_known(self, worker: WorkerHandle) -> None:
        if (
            worker.exit is None
            and not (worker.orphaned or worker.undead)
            and not (failpoints.armed and failpoints.hit("lifecycle.settle"))
        ):
            return
        casualties, _ = self._casualties.pop(worker)
        if worker.exit is not None:
            self._continued = None
        for call_id, wall_s in casualties.items():
            self._tell(worker, call_id, wall_s)
        if not casualties and not worker.booted and not worker.orphaned and not worker.order:
            from_outside = worker.exit == (None, SIGKILL) and not worker.boot_error
            self._capacity.start_failed(_boot_story(worker, self._oom), from_outside=from_outside)
        self._capacity.settled(worker)
        worker.close()

    def _tell(self, worker: WorkerHandle, call_id: int, wall_s: float | None) -> None:
        stack, order, pid, undead = worker.page.dump(), worker.order, worker.pid, worker.undead
        tell = self._floor.events.append
        if undead and worker.pidfd >= 0:
            self._undead[call_id], worker.pidfd = worker.pidfd, -1
        if order is not None and order.call_id == call_id:
            tell(CallStopped(call_id, pid, stack, order.killed, wall_s, undead))
            return
        code, signum = worker.exit or (None, None)
        tell(CallLost(call_id, pid, code, signum, _story(worker, self._oom), stack, wall_s, undead=undead))


def _casualties(worker: WorkerHandle) -> Casualties:
    """The calls of a dead worker that have started, as far as it can be trusted to say, and how long each has run."""
    if failpoints.armed and failpoints.hit("lifecycle.blame"):
        return {}
    if worker.fault:
        return {call_id: worker.running_s(call_id) for call_id in worker.calls}
    running, _ = worker.running()
    casualties: Casualties = {running: worker.running_s(running)} if running else {}
    if worker.order is not None and worker.order.outcome_seen:  # it may have left the page since
        casualties[worker.order.call_id] = worker.since_start_s()
    return casualties


class _OomEvidence:
    """What the kernel counts of its out-of-memory kills, since this lease began. Each may explain one dead worker.

    Only may: it does not say whom it has killed, nor when, and its count is of others' processes too.
    """

    __slots__ = ("_before", "_explained")

    def __init__(self) -> None:
        self._before = _oom_kills()
        self._explained = 0

    def take(self) -> str:
        """What speaks for it that a worker which has ended by SIGKILL may be a victim; empty if nothing does."""
        now = _oom_kills()
        if now is None or self._before is None or (failpoints.armed and failpoints.hit("memory.oom_evidence")):
            return ""
        kills = now.kills - self._before.kills
        if kills <= self._explained:
            return ""
        self._explained += 1
        times = "once" if kills == 1 else f"{kills} times"
        return f"perhaps by the kernel's out-of-memory killer, which has struck {times} {now.where} since the run began"


def _oom_kills() -> memory.OomKills | None:
    try:
        return memory.oom_kills()
    except OSError:  # no descriptor to read it by
        return None


def _story(worker: WorkerHandle, oom: _OomEvidence) -> str:
    reason = worker.fault or ("its channel was shut down by the task" if worker.deaf else "")
    if reason or worker.undead:
        ended = f"was ended because {reason}" if reason else "was killed"
        return ended + "; it does not end: the kernel keeps it" * worker.undead
    if worker.exit is None:
        if worker.ended_first:
            return f"ended; how is not known, because its fork server {worker.orphaned}"
        return f"was killed because its fork server {worker.orphaned}"
    if worker.exit[1] != SIGKILL:
        return termination.describe_exit(*worker.exit, worker.farewell)
    return termination.describe_exit(*worker.exit, worker.farewell, oom.take()) + _memory_story()


def _memory_story() -> str:
    try:
        return f"; {memory.usable_memory_bytes() >> 20:,} MiB of memory are usable now"
    except OSError as error:
        return f"; how much memory is usable cannot be looked up: {error}"


def _boot_story(worker: WorkerHandle, oom: _OomEvidence) -> str:
    """Why a worker has ended before it was ready."""
    why = worker.boot_error or f"a worker {_story(worker, oom)} before it was ready"
    return f"{worker.page.dump()}\n{why}".strip()
