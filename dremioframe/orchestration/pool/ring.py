"""Outcomes in shared memory: what one worker has finished while more calls wait in its inbox. Part of its page.

A packet costs either side a system call. While a worker has more to do nobody needs to be woken for what it has done,
so it writes that down here, and the next outcome that travels as a packet makes the coordinator look at both. Calls
may be taken back at any moment, so after writing it sees whether it still has more to do; if not it sends a packet
that says so. (Whoever takes calls back looks a millisecond later: what was written before is there by then.) Nothing
is held back: an outcome is in the ring, complete, before the page says that the call is over, so a crash loses none::

    bytes of the frame -> WRITTEN moves past them -> RUNNING = 0        (the coordinator reads in the opposite order)

Frames lie one behind another, each on a multiple of eight. One that does not fit before the end begins at the start;
zeros in place of a header say so, if there is room for one. WRITTEN and READ count bytes from the beginning of time;
either has one writer.

Stores become visible in the order in which they were made on x86-64 only; elsewhere all outcomes are packets.

What lives here: both ends of the ring. What may not: which outcome goes through it (``worker``), and what it means
(``intake``).
"""

from __future__ import annotations

import os

from .. import failpoints
from . import frames
from .frames import ProtocolError
from .status_page import READ, RING_BYTES, WRITTEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .status_page import StatusPage

_HEADER_SIZE = frames.HEADER_SIZE
_SKIP = bytes(_HEADER_SIZE)
_LAST_START = RING_BYTES - _HEADER_SIZE
_peek = frames.peek

IS_ORDERED = os.uname().machine == "x86_64"


class RingWriter:
    """The worker's end."""

    __slots__ = ("_bytes", "_slots", "_written")

    def __init__(self, page: StatusPage) -> None:
        self._slots = page.slots
        self._bytes = page.ring
        self._written = 0

    def put(self, frame: bytes) -> bool:
        """Write a frame down; False if there is no room for it now."""
        size = len(frame)
        padded = (size + 7) & ~7
        start = self._written
        at = start % RING_BYTES
        skipped = RING_BYTES - at if at + padded > RING_BYTES else 0
        end = start + skipped + padded
        if end - self._slots[READ] > RING_BYTES:
            return False
        if skipped:
            if at <= _LAST_START:
                self._bytes[at : at + _HEADER_SIZE] = _SKIP
            at = 0
        watched = failpoints.armed
        if watched and failpoints.hit("ring.order"):
            self._slots[WRITTEN] = end
        self._bytes[at : at + size] = frame
        if watched:
            failpoints.hit("ring.between")
        self._slots[WRITTEN] = self._written = end
        return True


class RingReader:
    """The coordinator's end."""

    __slots__ = ("_bytes", "_read", "_slots")

    def __init__(self, page: StatusPage) -> None:
        self._slots = page.slots
        self._bytes = page.ring
        self._read = 0

    @property
    def is_empty(self) -> bool:
        return self._slots[WRITTEN] == self._read

    def receive(self) -> bytes | None:
        """The next frame, of legal length but unchecked otherwise; None if there is none.

        Raises:
            ProtocolError: That is no ring any more.
        """
        waiting = self._slots[WRITTEN] - self._read
        if not waiting:
            return None
        at = self._read % RING_BYTES
        size = _peek(self._bytes, at) if at <= _LAST_START else 0
        if not size:
            waiting -= RING_BYTES - at
            self._read += RING_BYTES - at
            at = 0
            size = _peek(self._bytes, at)
        if not 0 < size <= waiting <= RING_BYTES or at + size > RING_BYTES:
            raise ProtocolError(f"a ring with {waiting} bytes to read, and a frame of {size} at {at}")
        frame = bytes(self._bytes[at : at + size])
        self._slots[READ] = self._read = self._read + ((size + 7) & ~7)
        return frame
