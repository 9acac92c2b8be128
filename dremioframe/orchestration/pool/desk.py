"""The side channel, seen from the coordinator: answers for running calls, and long results handed over.

What lives here: reading side channels and writing answers. What may not: what a question means
(the lease's user knows).
"""

from __future__ import annotations

import errno
import time

from . import frames, status_page
from .channel import Closed
from .frames import Kind, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..payload.segments import Segment
    from ..payload.store import Store
    from .floor import Floor
    from .worker_handle import WorkerHandle

_RECEIVE_SIZE = frames.HEADER_SIZE + frames.INLINE_LIMIT + 1

#: How often an answer is tried to be sent for which the kernel has no room, and the pause between.
_TRIES, _BREATH_S = 20, 0.001

#: So many questions of one worker are answered in a row, then it is the others' turn.
_IN_A_ROW = 64


class Desk:
    """Serves the side channels of one lease's workers."""

    __slots__ = ("_floor", "_on_request", "_store")

    def __init__(self, floor: Floor, on_request: Callable[[int, bytes], bytes | Segment], store: Store) -> None:
        self._floor = floor
        self._on_request = on_request
        self._store = store

    def serve(self, worker: WorkerHandle) -> None:
        """Read what is there; the rest, if there is much, when the loop comes round again.

        Raises:
            OutOfDescriptors: A segment is there, and cannot be taken now. Nothing is lost.
        """
        for _ in range(_IN_A_ROW):
            if worker.fault or not self._serve_one(worker):  # one that is being stopped may still ask
                return

    def claim(self, worker: WorkerHandle, call_id: int) -> Segment:
        """The segment that belongs to an outcome. Its worker has sent it before the outcome.

        Raises:
            OutOfDescriptors: It cannot be taken now. Nothing is lost.
            ProtocolError: It is not there.
        """
        while call_id not in worker.results:
            if not self._serve_one(worker):
                raise ProtocolError(f"the segment of call {call_id} did not come with its outcome")
        segment = self._store.keep(worker.results.pop(call_id))
        self.tell_room()
        return segment

    def close(self) -> None:
        """Nothing will be asked any more. Forgets who had the answers, who usually knows us as well."""
        self._on_request = _refuse

    def tell_room(self) -> None:
        """Tell the workers how much of their results may go to memory."""
        workers = self._floor.workers
        share = self._store.room() // max(1, len(workers))
        for worker in workers.values():
            worker.page.slots[status_page.ROOM] = share

    def _serve_one(self, worker: WorkerHandle) -> bool:
        """Read one packet; False if there is none."""
        received = worker.side.receive_with(_RECEIVE_SIZE, 1)
        if received is None:
            return False
        packet, fds = received
        if not packet:  # the worker has ended, or a task has closed its end; either shows elsewhere
            self._floor.unwatch(worker.side.fd)
            return False
        segment = None
        try:
            segment = _adopt(fds)
            kind, call_id, number, _ = frames.parse(packet, worker.incarnation, frames.FROM_SIDE)
            if kind == Kind.REQUEST:
                self._answer(worker, call_id, number, packet[frames.HEADER_SIZE :])
            elif segment is None or call_id not in worker.calls or call_id in worker.results:
                raise ProtocolError(f"a result of call {call_id}, which it does not have, or without its segment")
            else:
                worker.results[call_id] = segment
                segment = None
        except ProtocolError as error:
            self._floor.condemn(worker, f"it sent a malformed packet: {error}")
            return False
        finally:
            if segment is not None:
                segment.close()
        return True

    def _answer(self, worker: WorkerHandle, call_id: int, number: int, question: bytes) -> None:
        try:
            sent = self._try_to_answer(worker, call_id, number, question)
        except Closed:
            return  # the worker has ended meanwhile, or a task has closed its end
        except OSError as error:
            self._floor.condemn(worker, f"it could not be answered: {error}")  # not even that
            return
        if not sent:
            raise ProtocolError("it asks and does not read the answers")

    def _try_to_answer(self, worker: WorkerHandle, call_id: int, number: int, question: bytes) -> bool:
        try:
            if call_id and call_id not in worker.calls:
                raise LookupError("the call that asks is over")
            return self._send_answer(worker, number, self._on_request(call_id, question))
        except Closed:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer, and must not touch the loop
            why = f"{type(error).__name__}: {error}".encode("utf-8", "backslashreplace")[: frames.INLINE_LIMIT]
            return self._send(worker, frames.pack(Kind.REFUSAL, worker.incarnation, body=why, detail=number))

    def _send_answer(self, worker: WorkerHandle, number: int, answer: bytes | Segment) -> bool:
        if isinstance(answer, bytes):
            if len(answer) <= frames.INLINE_LIMIT:
                return self._send(worker, frames.pack(Kind.ANSWER, worker.incarnation, body=answer, detail=number))
            answer = self._store.create((answer,), len(answer), "dremioframe-answer")
        file, offset = answer.place
        place = frames.pack_place(offset, answer.size)
        packet = frames.pack(Kind.ANSWER_SEGMENT, worker.incarnation, body=place, detail=number)
        return self._send(worker, packet, (file.fd,))

    def _send(self, worker: WorkerHandle, packet: bytes, fds: tuple[int, ...] = ()) -> bool:
        """Send an answer; False if the worker does not read.

        Raises:
            OSError: The kernel cannot take it, for want of something.
        """
        for _ in range(_TRIES):
            if worker.side.send_with(packet, fds) if fds else worker.side.send(packet):
                return True
            if not worker.side.has_room():
                return False
            time.sleep(_BREATH_S)  # it is short of buffers, or too many descriptors are under way: rare enough
        raise OSError(errno.ETOOMANYREFS, "too many descriptors are under way, or the kernel is short of buffers")


def _refuse(_call_id: int, _question: bytes) -> bytes:
    raise LookupError("the lease is closed")


def _adopt(fds: tuple[int, ...]) -> Segment | None:
    if not fds:
        return None
    from ..payload.segments import Segment, SegmentError

    try:
        return Segment.adopt(fds[0])
    except SegmentError as error:
        raise ProtocolError(str(error)) from error
