"""Memory limits of calls: how much private memory the process tree of a running call takes, looked at now and then.

What counts is what the call has added. Its worker may hold memory since before: an initializer's model, caches of
earlier tasks. So the worker notes what it holds when it begins such a call (``Ports.note_memory``), and that much is
taken off; and processes older than the call are not its own. Pages shared with the fork server stay with what was there
before.

A look costs 25 microseconds a process, and whoever has no limit costs nothing. Looks follow each other the faster, the
sooner the limit could be reached at the latest rate; and the slower, the more they cost, so that they never take more
than a twentieth of the coordinator's time. Listing who has which children costs most where the kernel has no list of
them, so that is done less often.

Whoever is over its limit is told once; what to do about it is decided elsewhere. If it is stopped for it, and uses its
grace to take another quarter of its limit, the grace is over.

What lives here: when to look, and telling. What may not: reading (``footprint``) and stopping (``stopping``).
"""

from __future__ import annotations

import time

from .. import failpoints
from . import footprint, status_page
from .events import CallOverMemory
from .floor import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .floor import Floor
    from .stopping import Stops
    from .worker_handle import WorkerHandle

_monotonic = time.monotonic

_SHORTEST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.1
#: Nobody is believed to grow more slowly than this.
_SLOWEST_BYTES_PER_S = 1 << 30
#: Pauses are so many times as long as what they follow took.
_RESPITE = 20


class _Watched:
    """One call with a limit."""

    __slots__ = ("call_id", "family", "limit", "looked_at", "most", "told", "used")

    def __init__(self, call_id: int, limit: int, now: float) -> None:
        self.call_id = call_id
        self.limit = limit
        self.used = 0
        self.looked_at = now
        self.family: list[int] = []
        self.told = False
        self.most = limit  # more than this, and it is told; once it is: and it is killed


class MemoryLimits:
    """The memory limits of one lease.

    Attributes:
        due: When :meth:`expire` has to be called next.
    """

    __slots__ = ("_floor", "_list_at", "_stops", "_watched", "due")

    def __init__(self, floor: Floor, stops: Stops) -> None:
        self._floor = floor
        self._stops = stops
        self._watched: dict[WorkerHandle, _Watched] = {}
        self._list_at = 0.0
        self.due = NEVER

    def arm(self, worker: WorkerHandle, call_id: int, limit: int) -> None:
        """A call with a limit is about to be sent to this worker, which has no other."""
        now = _monotonic()
        worker.page.slots[status_page.HELD] = 0
        self._watched[worker] = _Watched(call_id, limit, now)
        self.due = min(self.due, now + _SHORTEST_PAUSE_S)

    def expire(self, now: float) -> None:
        """Look at all workers that run a call with a limit. Their inboxes have just been drained."""
        for worker, watched in list(self._watched.items()):
            if worker.incarnation not in self._floor.workers or watched.call_id not in worker.calls:
                del self._watched[worker]
        if failpoints.armed and failpoints.hit("memory.look"):
            self._watched.clear()
        try:
            pause_s = self._look_at_all(now)
        except OSError:  # no descriptor to read by
            pause_s = _LONGEST_PAUSE_S
        took_s = _monotonic() - now
        self.due = now + took_s + max(pause_s, _RESPITE * took_s) if self._watched else NEVER

    def _look_at_all(self, now: float) -> float:
        """Look at each; returns how long to wait before the next time."""
        begun = [
            worker
            for worker, watched in self._watched.items()
            if worker.running()[0] == watched.call_id and worker.page.slots[status_page.HELD]
        ]
        if begun and now >= self._list_at:
            self._list_families(begun)
        return min((self._look(worker, self._watched[worker], now) for worker in begun), default=_SHORTEST_PAUSE_S)

    def _list_families(self, workers: list[WorkerHandle]) -> None:
        before = _monotonic()
        ancestors = [(worker.pid, footprint.ticks(worker.running()[1])) for worker in workers]
        families = footprint.descendants(ancestors)
        for worker in workers:
            self._watched[worker].family = families[worker.pid]
        after = _monotonic()
        self._list_at = after + max(_SHORTEST_PAUSE_S, _RESPITE * (after - before))

    def _look(self, worker: WorkerHandle, watched: _Watched, now: float) -> float:
        """See how much it uses, and tell if that is too much; returns when to look again."""
        before = worker.page.slots[status_page.HELD]
        pids = (worker.pid, *watched.family)
        processes = {pid: footprint.held_bytes(pid) for pid in pids}
        used = sum(processes.values()) - before
        if used > watched.most and watched.family:
            # Too much if one ends meanwhile: then those read later have its share as well.
            processes = min(
                (footprint.tree_bytes(pids), footprint.tree_bytes(pids)), key=lambda sizes: sum(sizes.values())
            )
            used = sum(processes.values()) - before
        processes[worker.pid] -= before
        if worker.order is not None and not watched.told:  # it is being stopped for something else
            watched.told = True
            watched.most += watched.limit // 4
        if used > watched.most:
            self._on_excess(worker, watched, used, processes)
        rate = (used - watched.used) / max(now - watched.looked_at, _SHORTEST_PAUSE_S)
        watched.used, watched.looked_at = used, now
        pause_s = (watched.most - used) / (2 * max(rate, _SLOWEST_BYTES_PER_S))
        return min(max(pause_s, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)

    def _on_excess(self, worker: WorkerHandle, watched: _Watched, used: int, processes: dict[int, int]) -> None:
        if watched.told:
            if worker.order is not None:
                self._stops.kill(worker)
            return
        watched.told = True
        watched.most = used + watched.limit // 4
        shares = [(pid, footprint.command(pid), max(0, size)) for pid, size in processes.items() if size]
        peak = footprint.peak_bytes(worker.pid)
        self._floor.events.append(CallOverMemory(watched.call_id, watched.limit, used, tuple(shares), peak))
