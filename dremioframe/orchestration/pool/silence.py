"""Workers that do not react: they hold calls, run none of them, and read none.

A time-out does not help there: a call's clock starts with the call, in the worker. Somebody has stopped the process
(SIGSTOP), or it hangs in what it does after a call, or the machine is so busy that it does not get to run; from here
these look alike. So what comes first does no harm, whichever it is::

    unread at two looks    its calls are taken back, it gets others last, it is continued if it is stopped;
                           the same again at each look
    ... at twelve          it is killed, unless it seems to wait for the machine, or is in the hands of a debugger
    ... at 120             it is killed, unless it is in the hands of a debugger

A kill fails no attempt: what was read but not begun by then is told as returned, like what was taken back.

Counted in looks, not in seconds: when the loop was away (stopped, suspended, frozen together with its workers), that
was one look, whatever the clock says. Sending costs nothing for this: two looks that find the start of the same call on
the page, and something unread, are the whole evidence. To get ready is a sign of life as well, and the count begins
anew. Nobody looks when there is nothing unread.

What lives here: noticing. What may not: what happens to calls that were returned (``dispatch`` sends them elsewhere).
"""

from __future__ import annotations

import time

from .. import failpoints
from . import kinship, status_page, termination
from .floor import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .floor import Floor
    from .worker_handle import WorkerHandle

_monotonic = time.monotonic

_LOOK_S = 0.5

#: So many looks in a row without a reaction: to help it, to end it, to end it though it may only be waiting.
_PATIENCE = 2
_LIMIT = 12
_LONG_LIMIT = 120

_STOPPED, _TRACED = b"T", b"t"
#: It would go on if it could: it waits for a CPU, or for the disk it was swapped out to.
_WAITING = (b"R", b"D")


class Silence:
    """Watches the workers of one lease for silence.

    Attributes:
        due: When :meth:`expire` has to be called next.
    """

    __slots__ = ("_floor", "_seen", "due")

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        # Its sign of life (ready, start of its latest call), and how many looks have found this one.
        self._seen: dict[WorkerHandle, tuple[tuple[bool, int], int]] = {}
        self.due = NEVER

    def arm(self) -> None:
        """Calls are about to be sent, or wait for a worker that should have ended."""
        self.due = _monotonic() + _LOOK_S

    def expire(self, now: float) -> None:
        """Look at all workers. Their inboxes have just been drained."""
        workers = list(self._floor.workers.values())
        self._seen = {worker: self._seen[worker] for worker in workers if worker in self._seen}
        awaited = [worker for worker in workers if self._look(worker)]
        self.due = now + _LOOK_S if awaited else NEVER

    def _look(self, worker: WorkerHandle) -> bool:
        """See whether it has reacted; False if nothing of it is to be waited for."""
        if worker.pidfd < 0:
            return bool(worker.calls)  # it is being forked
        running, _ = worker.running()
        if worker.order is not None or running:
            self._reacted(worker)
            return worker.order is None and len(worker.calls) > 1
        sign = worker.booted, worker.page.slots[status_page.STARTED_NS]
        before, looks = self._seen.get(worker, (None, 0))
        if sign != before:
            self._reacted(worker)
            looks = 0
        if not worker.calls and not worker.condemned:
            return False
        self._seen[worker] = sign, looks + 1
        if looks + 1 >= _PATIENCE:
            self._prod(worker, looks + 1)
        return True

    def _reacted(self, worker: WorkerHandle) -> None:
        self._seen.pop(worker, None)
        worker.silent = False

    def _prod(self, worker: WorkerHandle, looks: int) -> None:
        """It has not reacted at so many looks."""
        if failpoints.armed and failpoints.hit("silence.prod"):
            return
        state = kinship.read_state(worker.pid)
        if worker.booted:
            worker.silent = True
            self._floor.take_back(worker)
        if state == _STOPPED:
            termination.resume(worker.pidfd)
        limit = _LONG_LIMIT if state in _WAITING else _LIMIT
        if failpoints.armed and failpoints.hit("silence.waits_for_cpu"):
            limit = _LIMIT
        if worker.booted and looks >= limit and state != _TRACED:
            self._floor.condemn(worker)  # no fault of it: a fault would make lost calls of those it has not begun
