"""Time-outs of calls: one look at a worker's page when its running call may be over its time.

A call's clock starts when it does, in the worker, which tells nobody: the start is on the status page. So what is armed
at dispatch is only the earliest moment at which anything could be overdue; when that comes, the page is read and the
next such moment follows from it. Thirty tiny calls with a time-out of a minute cost one look a minute.

What lives here: when, and telling. What may not: stopping anything (``stopping``).
"""

from __future__ import annotations

import time

from .. import failpoints
from .events import CallOverdue
from .floor import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .floor import Floor
    from .worker_handle import WorkerHandle

_monotonic = time.monotonic


class Deadlines:
    """The time-outs of one lease.

    Attributes:
        due: When :meth:`expire` has to be called next.
    """

    __slots__ = ("_floor", "_timed", "due")

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._timed: set[WorkerHandle] = set()
        self.due = NEVER

    def arm(self, worker: WorkerHandle, timeout_s: float) -> None:
        """A call with a time-out was sent to this worker."""
        if worker not in self._timed:
            self._timed &= set(self._floor.workers.values())  # its predecessors are not kept until their calls' limits
            self._timed.add(worker)
        due = _monotonic() + timeout_s
        self.due = min(self.due, due)

    def expire(self, now: float) -> None:
        """Look at all workers that have calls with time-outs. Their inboxes have just been drained."""
        due = NEVER
        for worker in list(self._timed):
            next_look = self._look(worker, now) if worker.incarnation in self._floor.workers else NEVER
            if next_look == NEVER:
                self._timed.discard(worker)
            due = min(due, next_look)
        self.due = due

    def _look(self, worker: WorkerHandle, now: float) -> float:
        """Tell if its running call is overdue; returns when to look again."""
        running, started_ns = worker.running()
        if running and started_ns > time.monotonic_ns():  # else it would never be over its time
            self._floor.condemn(worker, "its status page shows a start in the future")
            return NEVER
        due = NEVER
        for call_id, timeout_s in worker.calls.items():
            if timeout_s is None:
                continue
            if call_id != running:  # starts now at the earliest
                due = min(due, now + timeout_s)
            elif started_ns / 1e9 + timeout_s > now and not _by_dispatch():
                due = min(due, started_ns / 1e9 + timeout_s)
            else:
                worker.calls[call_id] = None  # said once
                self._floor.events.append(CallOverdue(call_id))
        return due


def _by_dispatch() -> bool:
    """False: what counts is when the call began, not when it was sent."""
    return failpoints.armed and failpoints.hit("deadlines.start")
