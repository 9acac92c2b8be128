"""Something that happens once and stays so.

``threading.Event`` guards itself by a lock that Python code takes: an exception that a signal handler raises there may
leave it held, and then nobody ever learns of it. Here whoever waits has a lock of its own, and waiting for that is one
step in C: an exception leaves nothing behind that another would meet.
"""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType


class Latch:
    """Set once, by any thread; waited for by any number of them.

    Attributes:
        is_set: Whether it has happened. Never becomes False again.
    """

    __slots__ = ("_waiting", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._waiting: dict[LockType, None] = {}

    def set(self) -> None:
        """It has happened. Not to be called twice."""
        self.is_set = True
        for lock in list(self._waiting):  # copied in one step: others come and go meanwhile
            lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has happened, at most ``timeout`` seconds; says whether it has."""
        own = threading.Lock()
        own.acquire()
        self._waiting[own] = None
        try:
            if not self.is_set:  # looked at after it can be found there: set() cannot slip through between
                # A second time: until set() has released it.
                own.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
        finally:
            self._waiting.pop(own, None)
        return self.is_set
