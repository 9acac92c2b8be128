"""What the parts of a lease share: the workers it has, the descriptors it watches, the events it will tell.

What lives here: bookkeeping without decisions. The parts (``intake``, ``desk``, ``deadlines``, ``stopping``,
``lifecycle``) know the floor and not each other, except where one is handed to another.

Descriptors are of two sorts: inboxes, which are read once per call and have a dictionary of their own, and the rest,
each with what to do when it is readable. Events may be spurious (a descriptor's number may have been given to another
since), so everything that is called for one must bear finding nothing.
"""

from __future__ import annotations

import select
import time

from .. import failpoints
from . import termination
from .events import CallReturned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .events import Event
    from .worker_handle import WorkerHandle

    Handler = Callable[[], None]

_IN = select.EPOLLIN

#: A descriptor whose packet cannot be taken (no descriptor is free) is looked at again after this long.
_PAUSE_S = 0.01

#: After calls were taken back from a worker its ring is looked at once more: it may have counted on them for a packet.
_RECHECK_S = 0.001

#: Whoever has not ended so long after SIGKILL sits in the kernel: a network disk that is gone, a frozen control group.
_KILLED_S = 10.0

NEVER = float("inf")


class Floor:
    """The shared state of one lease. Used in the lease's thread only.

    Attributes:
        epoll: What the lease waits in.
        events: To be told by the current ``wait``, or the next.
        workers: Leased workers that are not known to have ended, by incarnation.
        inboxes: The same by the descriptor of their inbox.
        killed: Workers that were sent SIGKILL, and until when they may take to end.
        killed_due: When the first of them should have ended.
        resume_due: When a paused descriptor must be looked at again.
        recheck_due: When the rings must be.
    """

    __slots__ = ("_handlers", "_paused", "epoll", "events", "inboxes", "killed", "killed_due", "recheck_due",
                 "resume_due", "workers")  # fmt: skip

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.events: list[Event] = []
        self.workers: dict[int, WorkerHandle] = {}
        self.inboxes: dict[int, WorkerHandle] = {}
        self.killed: dict[WorkerHandle, float] = {}
        self.resume_due = self.recheck_due = self.killed_due = NEVER
        self._handlers: dict[int, Handler] = {}
        self._paused: list[int] = []

    def add(self, worker: WorkerHandle, on_side: Handler) -> None:
        """A worker arrives."""
        self.epoll.register(worker.inbox.fd, _IN)
        self._unpause(worker.inbox.fd)
        try:
            self.watch(worker.side.fd, on_side)
        except OSError:
            self.epoll.unregister(worker.inbox.fd)
            raise
        self.workers[worker.incarnation] = worker
        self.inboxes[worker.inbox.fd] = worker

    def remove(self, worker: WorkerHandle) -> None:
        """A worker leaves, or has ended."""
        del self.workers[worker.incarnation]
        self.killed.pop(worker, None)
        del self.inboxes[worker.inbox.fd]
        self._unregister(worker.inbox.fd)
        self.unwatch(worker.side.fd)
        if worker.pidfd >= 0:
            self.unwatch(worker.pidfd)

    def watch(self, fd: int, handler: Handler) -> None:
        """Call ``handler`` whenever ``fd`` is readable."""
        self.epoll.register(fd, _IN)
        self._unpause(fd)
        self._handlers[fd] = handler

    def unwatch(self, fd: int) -> None:
        """Never mind; also if it was not watched."""
        if self._handlers.pop(fd, None) is not None:
            self._unregister(fd)

    def forget(self, fd: int, handler: Handler) -> None:
        """The descriptor has been closed, and epoll has forgotten it by itself. Its number may be another's by now."""
        if self._handlers.get(fd) == handler:
            del self._handlers[fd]
            if fd not in self.inboxes:
                self._unpause(fd)

    def watches(self, fd: int) -> bool:
        """Whether it is watched, or paused."""
        return fd in self._handlers

    def handler(self, fd: int) -> Handler | None:
        """What to do about a readable descriptor that is no inbox."""
        return self._handlers.get(fd)

    def pause(self, fd: int) -> None:
        """Do not listen to this descriptor for a moment: what is there cannot be taken now. Idempotent."""
        if fd not in self._paused:
            self.epoll.unregister(fd)
            self._paused.append(fd)
        self.resume_due = min(self.resume_due, time.monotonic() + _PAUSE_S)

    def resume(self) -> None:
        """Listen to paused descriptors again."""
        self.resume_due = NEVER
        for fd in self._paused:
            if fd in self.inboxes or fd in self._handlers:
                self.epoll.register(fd, _IN)
        self._paused.clear()

    def take_back(self, worker: WorkerHandle) -> None:
        """Take all unread calls back from a worker and tell that they never started."""
        self.events += map(CallReturned, worker.take_back())
        self.recheck_due = time.monotonic() + _RECHECK_S

    def condemn(self, worker: WorkerHandle, fault: str = "") -> None:
        """End a worker, now. If it has not been forked yet, as soon as it is."""
        worker.condemned = True
        worker.fault = worker.fault or fault
        if worker.pidfd >= 0:
            if not (failpoints.armed and failpoints.hit("floor.kill")):
                termination.kill(worker.pidfd)
            limit = self.killed.setdefault(worker, time.monotonic() + _KILLED_S)
            self.killed_due = min(self.killed_due, limit)

    def close(self) -> None:
        """Stop watching altogether, and forget whose business it was."""
        self.epoll.close()
        self._handlers.clear()

    def _unregister(self, fd: int) -> None:
        if not self._unpause(fd):
            self.epoll.unregister(fd)

    def _unpause(self, fd: int) -> bool:
        """False if nobody has paused it. One of a number that is watched anew was closed while it was paused."""
        if fd not in self._paused:
            return False
        self._paused.remove(fd)
        return True
