"""A lease: one run's use of the pool's workers, and the loop that supervises them.

::

    submit ----> backlog (only if nothing has room) ----> inbox of a worker ----------------+
                                                          (up to ``window`` calls wait)     |
    wait <---- events <---- intake  <---- outcomes -------------------------------- worker <+
                 ^   ^      desk    <---- questions, long results (side channel) --   |
                 |   |               ---- answers -------------------------------->   |
                 |   +----- deadlines <-- status page (running call, its start) ----  |
                 |   +----- silence   <-- the same (it never changes), memory_limits  |
                 |          stopping ---- signals through its pidfd --------------->  |
                 +--------- lifecycle <-- pidfd (it has ended), zygote (how) --------+

Everything happens in the thread that calls ``wait``; there are no helper threads. One epoll holds the inboxes, side
channels and pidfds of the leased workers, the zygote's channel (whoever hears it passes on what concerns others), and
an eventfd for :meth:`Lease.wake` and for what other threads post.

What lives here: the loop, and the lease's beginning and end. The parts above have files of their own; who gets which
call is decided in ``dispatch``.
"""

from __future__ import annotations

import time

from ..errors import WorkerStartError
from ..waiting import LOOK_UP_S
from .bell import Bell
from .channel import OutOfDescriptors
from .deadlines import Deadlines
from .desk import Desk
from .dispatch import Dispatch
from .events import CallEnded
from .floor import NEVER, Floor
from .intake import Intake
from .lifecycle import Lifecycle
from .memory_limits import MemoryLimits
from .silence import Silence
from .stopping import Stops
from .window import Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..payload.segments import Segment
    from ..payload.store import Store
    from .capacity import Capacity
    from .events import Event
    from .process_pool import ProcessPool
    from .worker_handle import WorkerHandle
    from .zygote_client import ZygoteClient


_monotonic = time.monotonic

#: ``close`` waits so long for killed workers; they have been sent SIGKILL.
_CLOSE_LIMIT_S = 2.0

#: A turn that takes longer was no turn: this process was stopped, or all of them were, or user code kept the thread.
_LONGEST_TURN_S = 2 * LOOK_UP_S


class Lease:
    """Workers of a pool, used by one thread. Only :meth:`wake` may be called from others."""

    def __init__(
        self,
        pool: ProcessPool,
        capacity: Capacity,
        store: Store,
        on_request: Callable[[int, bytes], bytes | Segment],
        max_workers: int | None,
        ended_type: type[CallEnded] = CallEnded,
    ) -> None:
        """
        Raises:
            WorkerStartError: No descriptor or no memory is left to listen to workers by.
        """
        capacity.check_usable()
        size = capacity.options.size
        self._pool = pool  # a pool is not collected while it is in use
        self._capacity = capacity
        self._floor, self._bell = _ready_to_listen()
        floor = self._floor
        self._zygote: ZygoteClient | None = None
        self._looked_up = _monotonic()
        window = Window()
        self._desk = desk = Desk(floor, on_request, store)
        self._intake = Intake(floor, desk, window, capacity, ended_type)
        self._deadlines = Deadlines(floor)
        self._silence = Silence(floor)
        self._stops = Stops(floor, self._intake, capacity.options.kill_grace_s)
        self._memory_limits = MemoryLimits(floor, self._stops)
        try:
            self._share = capacity.join(self, size if max_workers is None else min(size, max_workers))
        except BaseException:
            self.abandon()
            raise
        self._lifecycle = Lifecycle(floor, desk, self._intake, self._stops, capacity, self._share)
        self._dispatch = Dispatch(
            floor, window, self._deadlines, self._memory_limits, self._silence, self._lifecycle, capacity, self._share
        )

    # ------------------------------------------------------------------------------------------------------ dispatching

    def room(self) -> int:
        """How many calls may be submitted now. Ask only if there is something to submit: 0 is taken as hunger."""
        return self._dispatch.room()

    def submit(self, call_id: int, body: bytes, timeout_s: float | None) -> None:
        """Have a call run as soon as possible.

        Args:
            call_id: A number that no other call of this lease has at the time; not 0.
            body: What the runner is given; at most 200,000 bytes.
            timeout_s: After so long, counted from its start in the worker, :class:`CallOverdue` is told.

        Raises:
            ExecutorClosedError: The pool was closed, or belongs to another process.
        """
        self._dispatch.submit(call_id, body, timeout_s)

    def submit_limited(self, call_id: int, body: bytes, timeout_s: float | None, memory_limit: int) -> None:
        """As :meth:`submit`, but at once or not at all; then :class:`CallReturned` is told.

        Args:
            memory_limit: When the call has added so many bytes to what its worker held, :class:`CallOverMemory` is
                told. Its runner has to begin with ``Ports.note_memory``.
        """
        self._dispatch.submit_limited(call_id, body, timeout_s, memory_limit)

    # --------------------------------------------------------------------------------------------------------- stopping

    def stop(self, call_id: int, dump: bool) -> None:
        """End a call for certain. ``wait`` tells what became of it: ended, returned (it never started), or stopped.

        Args:
            call_id: The call; one that is over already is ignored.
            dump: Whether the stacks of its threads are wanted.
        """
        if self._dispatch.withdraw(call_id):
            return
        worker = self._holder(call_id)
        if worker is not None:
            self._stops.stop(worker, call_id, dump=dump)

    def kill_all(self) -> None:
        """End all calls at once, without grace."""
        self._dispatch.withdraw_all()
        for worker in list(self._floor.workers.values()):
            self._stops.kill(worker)

    def is_undead(self, call_id: int) -> bool:
        """Whether the process that a call was given up with is still there."""
        return self._lifecycle.is_undead(call_id)

    def _holder(self, call_id: int) -> WorkerHandle | None:
        for worker in self._floor.workers.values():
            if call_id in worker.calls:
                return worker
        return None

    # ---------------------------------------------------------------------------------------------------------- waiting

    def wait(self, timeout_s: float | None) -> list[Event]:
        """Wait for something to tell, for :meth:`wake`, for room, or until the time is over.

        Args:
            timeout_s: None means no limit.

        Returns:
            What has happened, in no particular order; empty if nothing, or if only ``room`` has changed.

        Raises:
            ExecutorClosedError: The pool was closed, or belongs to another process.
            WorkerStartError: Three starts in a row have failed and no worker is alive.
        """
        floor = self._floor
        until = NEVER if timeout_s is None else _monotonic() + timeout_s
        while True:
            self._prepare()
            now = self._turn(until)
            if floor.events or self._bell.rung or now >= until:
                self._capacity.check_usable()  # how the workers of a closed pool ended is nobody's outcome
                self._bell.rung = False
                events, floor.events = floor.events, []
                self._dispatch.forget_plan()
                return events

    def wake(self) -> None:
        """Make a running or the next ``wait`` return. From any thread, and from a signal handler."""
        self._bell.ring()

    def _prepare(self) -> None:
        """What has to be in order before sleeping."""
        capacity = self._capacity
        capacity.check_usable()
        if capacity.zygote is not self._zygote:
            self._follow_zygote()
        if self._bell.mail:
            self._read_mail()
        if self._dispatch.backlog:
            self._dispatch.flush()
        if self._dispatch.retreating or capacity.hungry:
            self._dispatch.share_out()
        if self._dispatch.starved and not self._floor.workers and not self._floor.events:
            capacity.check_hope()  # with a worker there is hope

    def _turn(self, until: float) -> float:
        """Sleep until something happens or is due, and deal with it; returns the time afterwards."""
        floor = self._floor
        now = _monotonic()
        due = min(
            until,
            self._deadlines.due,
            self._stops.due,
            self._silence.due,
            self._memory_limits.due,
            self._lifecycle.due,
            self._dispatch.due(now),
            floor.resume_due,
            floor.recheck_due,
            floor.killed_due,
        )
        sleep_s = 0.0 if floor.events or self._bell.rung else min(max(0.0, due - now), LOOK_UP_S)
        heard = self._listen(sleep_s)
        now = _monotonic()
        if now - self._looked_up > _LONGEST_TURN_S:
            # Whoever was to do something meanwhile may have been away, too.
            self._lifecycle.postpone(now - self._looked_up)
            self._stops.postpone(now - self._looked_up)
        self._looked_up = now
        if now >= due:
            if not heard:  # a poll whose time passes while this process is stopped ends without having looked
                self._listen(0.0)
            self._expire(now)
        return now

    def _listen(self, sleep_s: float) -> bool:
        """Sleep until something can be read, and read it, outcomes first; whether there was anything."""
        floor = self._floor
        late = []
        readable = floor.epoll.poll(sleep_s)
        for fd, _ in readable:
            worker = floor.inboxes.get(fd)
            if worker is not None:
                self._intake.drain(worker)
            else:
                late.append(fd)
        for fd in late:
            self._handle(fd)
        if self._bell.mail:
            self._read_mail()
        return bool(readable)

    def _handle(self, fd: int) -> None:
        handler = self._floor.handler(fd)
        if handler is None:
            return  # it was unwatched by what came before it
        try:
            handler()
        except OutOfDescriptors:
            self._floor.pause(fd)

    def _expire(self, now: float) -> None:
        """Something is due. Everything that can be read is read before, so nobody is judged by stale news."""
        if now >= self._floor.recheck_due:  # else it has just been set, for later
            self._floor.recheck_due = NEVER
        for worker in list(self._floor.workers.values()):
            if not worker.ring.is_empty:
                self._intake.drain(worker)
        if now >= self._floor.resume_due:
            self._floor.resume()
            for worker in list(self._floor.workers.values()):
                if worker.unclaimed is not None:  # its outcome has been read, so its inbox will not call for attention
                    self._intake.drain(worker)
        for part in (self._deadlines, self._memory_limits, self._stops, self._silence, self._lifecycle):
            if now >= part.due:
                part.expire(now)
        if now >= self._floor.killed_due:
            self._lifecycle.give_up_undead(now)
        if now >= self._dispatch.crowd_due:
            self._dispatch.uncrowd(now)
        if self._dispatch.may_retry(now):
            self._bell.rung = True  # there may be room now

    # ---------------------------------------------------------------------------------------------- others in the pool

    def post(self, worker: WorkerHandle | None) -> None:
        """From other threads, under the pool's lock: look at this worker, or (None) see whether room has changed."""
        self._bell.post(worker)

    def abandon(self) -> None:
        """In a child that the user's process has forked."""
        self._floor.close()
        self._bell.abandon()

    def _read_mail(self) -> None:
        while self._bell.mail:
            worker = self._bell.mail.popleft()
            self._follow_zygote()
            if worker is None:
                self._bell.rung = True
                if self._dispatch.retreating:
                    self._dispatch.share_out()  # perhaps nobody needs them any more, and then they may be filled again
            elif worker.incarnation in self._floor.workers or not self._capacity.is_owner(worker, self._share):
                self._lifecycle.look(worker)
            else:
                self._lifecycle.enlist(worker)
                self._bell.rung = True

    def _follow_zygote(self) -> None:
        """If another fork server is in office, listen to that one. The old one's descriptor is closed already.

        Before anything new is watched, or let go: it may have been given the number of that descriptor.
        """
        if self._capacity.zygote is self._zygote:
            return
        floor = self._floor
        if self._zygote is not None:
            floor.forget(self._zygote.control_fd, self._capacity.listen)
        self._zygote = self._capacity.zygote
        if self._zygote is not None:
            floor.watch(self._zygote.control_fd, self._capacity.listen)

    # -------------------------------------------------------------------------------------------------------------- end

    def close(self) -> None:
        """Give all workers back. Calls that are not over are ended at once and not told. Idempotent."""
        if not self._bell.mute():
            return
        try:
            if not self._capacity.closed:
                self._end_calls()
        finally:
            self._follow_zygote()
            for worker in list(self._floor.workers.values()):
                self._let_go(worker)
            self._lifecycle.forget()
            self._capacity.leave(self._share)
            self._floor.close()
            self._desk.close()
            self._bell.close()

    def _end_calls(self) -> None:
        until = _monotonic() + _CLOSE_LIMIT_S
        for worker in list(self._floor.workers.values()):
            if worker.calls:
                self._stops.kill(worker)
        while self._is_ending() and not self._capacity.closed and _monotonic() < until:
            self._follow_zygote()
            self._floor.events.clear()
            self._bell.rung = False
            self._turn(until)
        for event in self._floor.events:
            if isinstance(event, CallEnded) and event.segment is not None:
                event.segment.close()

    def _is_ending(self) -> bool:
        return bool(self._lifecycle.dying) or any(worker.condemned for worker in self._floor.workers.values())

    def _let_go(self, worker: WorkerHandle) -> None:
        if worker.condemned or worker.calls or self._capacity.closed:
            self._floor.condemn(worker)
            self._floor.remove(worker)
            self._capacity.gone(worker, self._share)
            self._capacity.settled(worker)
            worker.close()
        else:
            self._lifecycle.dismiss(worker)


def _ready_to_listen() -> tuple[Floor, Bell]:
    """A floor that hears its bell.

    Raises:
        WorkerStartError: No descriptor or no memory is left for it.
    """
    floor: Floor | None = None
    bell: Bell | None = None
    try:
        floor = Floor()
        bell = Bell()
        floor.watch(bell.fd, bell.heard)
    except OSError as error:
        for part in (floor, bell):
            if part is not None:
                part.close()
        raise WorkerStartError(f"cannot listen to workers: {error}") from error
    return floor, bell
