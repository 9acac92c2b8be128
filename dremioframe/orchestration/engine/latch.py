"""Something that happens once and stays so.

``threading.Event`` guards itself by a lock that Python code takes: an exception that a signal handler raises there may
leave it held, and then nobody ever learns of it. Here whoever waits has a lock of its own, and waiting for that is one
step in C: an exception leaves nothing behind that another would meet.
"""

from __future__ import annotations

import math
import os
import threading
import time

from ..waiting import LOOK_UP_S

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
        """Wait until it has happened, at most ``timeout`` seconds; says whether it has.

        In a child made by ``os.fork`` (by a signal handler in the middle of this, say) nobody sets it: there False is
        given within half a second.
        """
        pid, own = os.getpid(), threading.Lock()
        own.acquire()
        self._waiting[own] = None
        left_s = math.inf if timeout is None else max(0.0, timeout)
        end = time.monotonic() + left_s
        try:
            # Looked at after it can be found there: set() cannot slip through between.
            while not self.is_set and not own.acquire(timeout=min(left_s, LOOK_UP_S)):
                left_s = max(0.0, end - time.monotonic())
                if not left_s or os.getpid() != pid:
                    break
        finally:
            self._waiting.pop(own, None)
        return self.is_set
