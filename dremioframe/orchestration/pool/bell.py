"""The bell of a loop: how other threads, and signal handlers, make it look up.

What lives here: an eventfd, what is posted with it, and the one lock that a loop needs. What may not: what follows from
any of it (``supervisor``).
"""

from __future__ import annotations

import os
import threading
from collections import deque

from .. import failpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .worker_handle import WorkerHandle


class Bell:
    """Heard by one thread, rung by any.

    Attributes:
        fd: For epoll: readable when it was rung; -1 once it is closed.
        rung: Whoever waits is to return. Set and reset by the loop itself, too.
        mail: Workers to look at; None to see whether room has changed.
    """

    __slots__ = ("_lock", "_muted", "fd", "mail", "rung")

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.rung = False
        self.mail: deque[WorkerHandle | None] = deque()
        # Reentrant: a signal handler that rings may have interrupted this thread in the middle of the same.
        simple = failpoints.armed and failpoints.hit("supervisor.reentrant")
        self._lock = threading.Lock() if simple else threading.RLock()
        self._muted = False

    def ring(self) -> None:
        """Make a running or the next wait return."""
        with self._lock:
            if not self._muted:
                if failpoints.armed:
                    failpoints.hit("supervisor.wake")
                self.rung = True
                os.eventfd_write(self.fd, 1)

    def post(self, worker: WorkerHandle | None) -> None:
        """Leave something for the loop, and have it look."""
        with self._lock:
            if self.fd >= 0:
                self.mail.append(worker)
                os.eventfd_write(self.fd, 1)

    def heard(self) -> None:
        """It is readable: have it quiet until it is rung again."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return

    def mute(self) -> bool:
        """Ringing has no effect any more, posting has; False if that was so already."""
        with self._lock:
            before, self._muted = self._muted, True
            return not before

    def close(self) -> None:
        """Give the descriptor back."""
        with self._lock:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def abandon(self) -> None:
        """In a child that the user's process has forked: without the lock, which somebody may hold for ever here."""
        self._muted = True
        os.close(self.fd)
        self.fd = -1
