"""Outcomes, read from the inboxes: the hot path of the coordinator.

What lives here: what one received packet means. What may not: anything that is needed less than once per call.
"""

from __future__ import annotations

import time

from . import frames
from .channel import OutOfDescriptors
from .events import CallEnded, CallLost
from .frames import FLAG_RETIRING, FLAG_SEGMENT, FROM_WORKER, OUTCOME_RECEIVE_SIZE, STATUS_MASK, Kind, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .capacity import Capacity
    from .desk import Desk
    from .floor import Floor
    from .frames import Frame
    from .window import Window
    from .worker_handle import WorkerHandle

_OUTCOME = Kind.OUTCOME

#: A long result waits so long for a free descriptor to take it by, then it is given up.
_CLAIM_LIMIT_S = 10.0


class Intake:
    """Reads the inboxes of one lease's workers."""

    __slots__ = ("_capacity", "_desk", "_floor", "_max_calls", "_window")

    def __init__(self, floor: Floor, desk: Desk, window: Window, capacity: Capacity) -> None:
        self._floor = floor
        self._desk = desk
        self._window = window
        self._capacity = capacity
        self._max_calls = capacity.options.max_calls_per_worker

    def drain(self, worker: WorkerHandle) -> None:
        """Read all outcomes that are there."""
        calls = worker.calls
        receive = worker.inbox.receive
        incarnation = worker.incarnation
        if worker.unclaimed is not None and not self._claim_again(worker):
            return
        while True:
            packet = receive(OUTCOME_RECEIVE_SIZE)
            if packet is None:
                return
            try:
                frame = frames.parse(packet, incarnation, FROM_WORKER)
                if frame.kind != _OUTCOME:
                    self._on_other(worker, frame, packet)
                    continue
                if not self._on_outcome(worker, frame, packet):
                    return
            except ProtocolError as error:
                self._floor.condemn(worker, f"it sent a malformed packet: {error}")
                return
            if not calls:
                self._on_empty(worker)
                return  # nothing more can come, and asking costs more than a packet does

    def _on_outcome(self, worker: WorkerHandle, frame: Frame, packet: bytes) -> bool:
        """Take one outcome; False if that has to wait."""
        _, call_id, detail, wall_ns = frame
        if call_id not in worker.calls:
            raise ProtocolError(f"an outcome of call {call_id}, which it does not have")
        if worker.order is not None and worker.order.call_id == call_id:
            self._floor.condemn(worker)  # it was told to stop before this was read; what it did in spite of that is void
            return False
        segment = None
        if detail > STATUS_MASK:
            if detail & FLAG_RETIRING:
                worker.condemned = True  # it ends by itself
            if detail & FLAG_SEGMENT:
                try:
                    segment = self._desk.claim(worker, call_id)
                except OutOfDescriptors:
                    worker.unclaimed = (frame, packet, time.monotonic())
                    self._floor.pause(worker.inbox.fd)
                    return False
        del worker.calls[call_id]
        worker.served = True
        worker.full = False
        self._window.observe(wall_ns)
        self._floor.events.append(CallEnded(call_id, detail & STATUS_MASK, worker.pid, wall_ns, packet, segment))
        return True

    def _claim_again(self, worker: WorkerHandle) -> bool:
        """An outcome was read whose segment could not be taken: try now. False if it still cannot."""
        assert worker.unclaimed is not None
        frame, packet, since = worker.unclaimed
        worker.unclaimed = None
        try:
            taken = self._on_outcome(worker, frame, packet)
        except ProtocolError as error:
            self._floor.condemn(worker, f"it sent a malformed packet: {error}")
            return False
        if taken:
            if not worker.calls:
                self._on_empty(worker)
        elif worker.order is None:
            worker.unclaimed = (frame, packet, since)
            if time.monotonic() - since > _CLAIM_LIMIT_S:
                self.give_up_claim(worker)
        return taken

    def give_up_claim(self, worker: WorkerHandle) -> None:
        """The segment of an outcome cannot be had: its call is lost, and its worker with it."""
        if worker.unclaimed is None:
            return
        call_id = worker.unclaimed[0].call_id
        worker.unclaimed = None
        del worker.calls[call_id]
        why = "finished, but its result could not be taken over: too many open files in the coordinator"
        self._floor.events.append(CallLost(call_id, worker.pid, None, None, why, ""))
        self._floor.condemn(worker)

    def _on_other(self, worker: WorkerHandle, frame: Frame, packet: bytes) -> None:
        body = packet[frames.HEADER_SIZE :].decode("utf-8", "replace")
        match frame.kind:
            case Kind.BOOTED:
                worker.booted = True
                self._capacity.booted()
            case Kind.BOOT_FAILED:
                worker.boot_error = body
                worker.condemned = True
            case Kind.UNDELIVERABLE:
                if worker.calls.pop(frame.call_id, 0) == 0:
                    raise ProtocolError(f"an end of call {frame.call_id}, which it does not have")
                self._floor.events.append(CallLost(frame.call_id, worker.pid, None, None, body, ""))

    def _on_empty(self, worker: WorkerHandle) -> None:
        """A worker has nothing left to do."""
        worker.alone = False
        if self._max_calls is not None and worker.sent >= self._max_calls:
            self._floor.condemn(worker)
