"""Stopping a call for certain, without hitting another and without losing an outcome.

The order of steps is the point::

    send nothing more -> take back what is unread -> drain -> drain again -> stack -> SIGTERM -> grace -> SIGKILL

Taken back: the call never started, and the worker goes on. Found while draining: it ended before it was stopped, and
that counts. Neither: the worker has received it, so it runs it, or is about to, and nothing else; then the worker is
told to end, and nothing that it still says is heard. What was running is read from the page after its death.

What lives here: orders and their timing. What may not: the signals themselves (``termination``).
"""

from __future__ import annotations

import time

from .. import failpoints
from . import termination
from .floor import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .floor import Floor
    from .intake import Intake
    from .worker_handle import WorkerHandle

#: A stack that was asked for gets at least so long to be written, even without any grace, ...
_DUMP_S = 0.01
#: ... and at most so long, on a machine so busy that the worker does not get to run.
_DUMP_LIMIT_S = 0.2
#: It is looked so often whether the stack has begun to be written; only then the worker is told to end. With both at
#: once, one would go to another thread, for the kernel prefers one that has none to take: a dump from there while the
#: main thread runs on may crash, and an end told there does not wake the main thread, where Python's handler runs.
_LOOK_S = 0.001
#: Told again as long as it does not know: the system call in which it sleeps has to be interrupted in the main thread.
_REMIND_S = 0.02


class Order:
    """A worker has been told to end because of this call.

    Attributes:
        call_id: The call.
        dump: A stack was asked for.
        told: It has been told to end.
        asked_at: When the first signal was sent; infinite if the worker has not been forked yet.
        tell_at: When it has to be told to end, or told again; infinite if it knows.
        kill_at: When SIGKILL is due; infinite once it has been sent.
        killed: It did not end by itself.
        outcome_seen: The call has ended, too late; so it had started, whatever the page says by now.
    """

    __slots__ = ("asked_at", "call_id", "dump", "kill_at", "killed", "outcome_seen", "tell_at", "told")

    def __init__(self, call_id: int, *, dump: bool) -> None:
        self.call_id = call_id
        self.dump = dump
        self.told = False
        self.asked_at = NEVER
        self.tell_at = NEVER
        self.kill_at = NEVER
        self.killed = False
        self.outcome_seen = False


class Stops:
    """The orders of one lease.

    Attributes:
        due: When :meth:`expire` has to be called next.
    """

    __slots__ = ("_floor", "_grace_s", "_intake", "_ordered", "due")

    def __init__(self, floor: Floor, intake: Intake, grace_s: float) -> None:
        self._floor = floor
        self._intake = intake
        self._grace_s = grace_s
        self._ordered: set[WorkerHandle] = set()
        self.due = NEVER

    def stop(self, worker: WorkerHandle, call_id: int, *, dump: bool) -> None:
        """Stop one call; its end is told as an event."""
        if worker.order is None and self._is_held(worker, call_id):
            self._order(worker, Order(call_id, dump=dump))
            self.proceed(worker)

    def kill(self, worker: WorkerHandle) -> None:
        """Stop whatever a worker runs, without grace."""
        if worker.order is None:
            self._floor.take_back(worker)
            self._intake.drain(worker)
            for call_id in list(worker.calls)[:1]:
                self._order(worker, Order(call_id, dump=False))
        if worker.order is not None:
            worker.order.killed = True
            worker.order.kill_at = worker.order.tell_at = NEVER
            self._floor.condemn(worker)

    def proceed(self, worker: WorkerHandle) -> None:
        """Send the signals, if the worker can be signalled yet; else when it has been forked."""
        order = worker.order
        if order is None or worker.pidfd < 0 or order.asked_at != NEVER:
            return
        if failpoints.armed:
            failpoints.hit("stopping.signal")
        (termination.ask_for_stacks if order.dump else termination.ask_to_end)(worker.pidfd)
        order.told = not order.dump
        order.asked_at = time.monotonic()
        order.kill_at = order.asked_at + max(self._grace_s, _DUMP_S if order.dump else 0.0)
        order.tell_at = order.asked_at + (_LOOK_S if order.dump else _REMIND_S)
        self.due = min(self.due, order.kill_at, order.tell_at)

    def expire(self, now: float) -> None:
        """Kill those whose grace is over, and tell those that may not know of it."""
        self.due = NEVER
        for worker in list(self._ordered):
            order = worker.order
            if order is None or worker.incarnation not in self._floor.workers:
                self._ordered.discard(worker)
                continue
            if order.kill_at <= now:
                self._kill_or_wait(worker, order, now)
            elif order.tell_at <= now:
                self._tell(worker, order, now)
            self.due = min(self.due, order.kill_at, order.tell_at)

    def postpone(self, away_s: float) -> None:
        """Nobody was there to see workers end for so long: it does not count as grace."""
        for worker in self._ordered:
            if worker.order is not None:
                worker.order.kill_at += away_s
        self.due = min(self.due, time.monotonic())  # and is worked out anew

    def _tell(self, worker: WorkerHandle, order: Order, now: float) -> None:
        """Tell a worker to end, unless it knows or its stack is still to come."""
        waited_s = now - order.asked_at
        page = worker.page
        if page.knows_of_its_end() or (order.told and page.handles_its_end()):
            order.tell_at = NEVER
        elif order.dump and waited_s < min(_DUMP_LIMIT_S, self._grace_s / 2) and not page.dump():
            order.tell_at = now + _LOOK_S
        else:
            termination.ask_to_end(worker.pidfd)
            order.told = True
            order.tell_at = now + max(_REMIND_S, waited_s)  # ever more seldom: it may be busy in native code

    def _kill_or_wait(self, worker: WorkerHandle, order: Order, now: float) -> None:
        if order.dump and now < order.asked_at + _DUMP_LIMIT_S and not worker.page.dump():
            order.kill_at = now + _DUMP_S
            return
        order.killed = True
        order.kill_at = order.tell_at = NEVER
        if failpoints.armed and failpoints.hit("stopping.kill"):
            return
        self._floor.condemn(worker)

    def _is_held(self, worker: WorkerHandle, call_id: int) -> bool:
        """Whether the worker has received the call and not ended it. All its unread calls are taken back."""
        if not (failpoints.armed and failpoints.hit("stopping.take_back")):
            self._floor.take_back(worker)
        if failpoints.armed and failpoints.hit("stopping.drain"):
            return call_id in worker.calls
        for _ in range(2):  # the second time for what was sent while the first was being read
            if call_id not in worker.calls:
                return False
            self._intake.drain(worker)
        return call_id in worker.calls

    def _order(self, worker: WorkerHandle, order: Order) -> None:
        worker.order = order
        worker.condemned = True
        self._ordered.add(worker)
