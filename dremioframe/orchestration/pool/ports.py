"""What a runner in a worker may use of the pool while it runs a call.

What lives here: the runner's side of the side channel, and the small state that the SIGTERM handler and the worker's
loop share. What may not: the loop itself (``worker``).
"""

from __future__ import annotations

import os
import threading

from .. import failpoints
from ..payload.segments import File, Segment
from . import footprint, frames, status_page
from .channel import Closed, OutOfDescriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .channel import Channel
    from .hygiene import Hygiene

# Bound now: a task may replace it in its module.
_getpid = os.getpid

_ANSWER_SIZE = frames.HEADER_SIZE + frames.INLINE_LIMIT + 1


class RequestFailed(Exception):
    """The coordinator refused a request, or could not be asked."""


class Ports:
    """The pool as a runner sees it. One per worker.

    Attributes:
        running: Id of the call that runs, or 0. From the moment it is set SIGTERM raises in the runner.
        stopping: True once SIGTERM has come; this worker will not run another call.
        bytes_in: Length of what the running call was given so far.
        on_stop: Called by the SIGTERM handler before ``TaskCancelled`` is raised in the main thread, or None.
    """

    __slots__ = ("_identity", "_incarnation", "_lock", "_number", "_pid", "_side", "_slots", "bytes_in", "hygiene",
                 "on_stop", "running", "stopping")  # fmt: skip

    def __init__(self, side: Channel, incarnation: int, slots: memoryview) -> None:
        self.running = 0
        self.stopping = False
        self.bytes_in = 0
        self.on_stop: Callable[[], object] | None = None
        self.hygiene: Hygiene | None = None
        self._slots = slots
        self._side = side
        self._identity = side.identity()
        self._incarnation = incarnation
        self._pid = os.getpid()
        # Reentrant: SIGTERM may interrupt a question, and its handler runs a hook of the task's, which may ask too.
        self._lock = threading.RLock()
        self._number = 0

    def rebase(self) -> None:
        """The runner has changed directory or environment on purpose: later calls are to find them so."""
        if self.hygiene is not None:
            self.hygiene.rebase()

    def note_memory(self) -> None:
        """The running call has a memory limit, and what this process holds by now is not its own."""
        try:
            held = footprint.held_bytes("self")
        except OSError:  # no descriptor to read it by: then all counts
            held = 0
        self._slots[status_page.HELD] = held or 1

    def request(self, body: bytes, call_id: int | None = None) -> bytes | memoryview:
        """Ask the coordinator; waits for the answer. From any thread of the call.

        Args:
            body: The question; what it means is between the runner and the coordinator's ``on_request``.
            call_id: The call on whose behalf: if that is over, the question is not asked. None: whichever runs.

        Returns:
            Bytes, or a private writable mapping if the answer is long.

        Raises:
            RequestFailed: The coordinator refused, the call is over, or this is a process that the task has forked.
        """
        if _getpid() != self._pid and not (failpoints.armed and failpoints.hit("ports.stranger")):
            raise RequestFailed("a process forked by a task cannot ask the coordinator for anything")
        if len(body) > frames.PACKET_LIMIT - frames.HEADER_SIZE:
            raise RequestFailed(f"a question of {len(body)} bytes is too long")
        with self._lock:
            running = self.running
            if call_id is not None and call_id != running:
                raise RequestFailed("the task that asks is over")
            return self._ask(running, body)

    def send_result(self, call_id: int, fd: int) -> None:
        """Hand the segment of an outcome over, ahead of the outcome itself."""
        self._check_side()
        self._side.send_with_waiting(frames.pack(frames.Kind.RESULT, self._incarnation, call_id), fd)

    def _ask(self, running: int, body: bytes) -> bytes | memoryview:
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        self._check_side()
        self._side.send_waiting(frames.pack(frames.Kind.REQUEST, self._incarnation, running, body, number))
        while True:
            try:
                packet, fd = self._side.receive_with_waiting(_ANSWER_SIZE)
            except OutOfDescriptors:
                raise RequestFailed("no free descriptor in the worker to take the answer") from None
            answer = self._read_answer(packet, fd, number)
            if answer is not None:
                self.bytes_in += len(answer)
                return answer

    def _read_answer(self, packet: bytes, fd: int | None, number: int) -> bytes | memoryview | None:
        """The answer in a packet; None if it answers an earlier question, whose asker was interrupted."""
        if not packet:
            raise Closed
        kind, _, answered, _ = frames.parse(packet, self._incarnation, frames.TO_SIDE)
        segment = None
        if fd is not None:
            offset, size = frames.read_place(packet)
            segment = Segment(File(fd), size, offset)
        try:
            if answered != number:
                return None
            if kind == frames.Kind.REFUSAL:
                raise RequestFailed(packet[frames.HEADER_SIZE :].decode("utf-8", "replace"))
            if segment is not None:
                return segment.map()
            return packet[frames.HEADER_SIZE :]
        finally:
            if segment is not None:
                segment.close()

    def _check_side(self) -> None:
        """Never write to a descriptor number that a task has closed and something else has got.

        Raises:
            RequestFailed: It is not our channel any more.
        """
        try:
            if self._side.identity() == self._identity or (failpoints.armed and failpoints.hit("ports.identity")):
                return
        except OSError:
            pass
        raise RequestFailed("the task has closed the worker's side channel")
