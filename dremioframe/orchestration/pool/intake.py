"""Outcomes, read from the inboxes: the hot path of the coordinator.

What lives here: what one received packet means. What may not: anything that is needed less than once per call.
"""

from __future__ import annotations

import time
from functools import partial

from .. import failpoints
from . import frames
from .channel import OutOfDescriptors
from .events import CallLost
from .frames import (
    FLAG_RETIRING,
    FLAG_SEGMENT,
    FROM_WORKER,
    HEADER_SIZE,
    OUTCOME_HEADER_SIZE,
    OUTCOME_RECEIVE_SIZE,
    STATS_SIZE,
    STATUS_MASK,
    Kind,
    ProtocolError,
    read_marked,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .capacity import Capacity
    from .desk import Desk
    from .events import CallEnded
    from .floor import Floor
    from .window import Window
    from .worker_handle import WorkerHandle

#: What is read out of a packet that is too short to be an outcome.
_NOTHING = (0, 0, 0, 0, 0)

#: A long result waits so long for a free descriptor to take it by, then it is given up.
_CLAIM_LIMIT_S = 10.0


class Intake:
    """Reads the inboxes of one lease's workers."""

    __slots__ = ("_capacity", "_desk", "_ended_type", "_floor", "_max_calls", "_window")

    def __init__(
        self, floor: Floor, desk: Desk, window: Window, capacity: Capacity, ended_type: type[CallEnded]
    ) -> None:
        self._floor = floor
        self._desk = desk
        self._window = window
        self._capacity = capacity
        self._max_calls = capacity.options.max_calls_per_worker
        self._ended_type = ended_type

    def drain(self, worker: WorkerHandle) -> None:
        """Read all outcomes that are there. One who has sent nonsense is not listened to any more."""
        if worker.fault:
            return
        calls = worker.calls
        before, wall_ns = len(calls), 0
        try:
            if worker.unclaimed is not None:
                wall_ns = self._claim_again(worker)
            wall_ns += self._read(worker, worker.ring.receive)
            if calls or not before:  # else nothing more can come, and asking costs as much as a packet does
                wall_ns += self._read(worker, partial(worker.inbox.receive, OUTCOME_RECEIVE_SIZE))
            if calls:  # what went to the ring after the first look, ahead of a packet that has just been read
                wall_ns += self._read(worker, worker.ring.receive)
        except ProtocolError as error:
            self._floor.condemn(worker, f"it sent a malformed packet: {error}")
        ended = before - len(calls)
        if ended:
            worker.served = True
            worker.full = False
            self._window.observe(ended, wall_ns)
            if not calls:
                self._on_empty(worker)

    def _read(self, worker: WorkerHandle, receive: Callable[[], bytes | None]) -> int:
        """Read outcomes until there is none, or the rest has to wait; returns how long their calls took."""
        calls, mark, ended_type, tell = worker.calls, worker.outcome_mark, self._ended_type, self._floor.events.append
        pid, is_plain, wall_ns = 0, worker.order is None, 0
        while worker.unclaimed is None and (packet := receive()) is not None:
            length = len(packet) - HEADER_SIZE
            sender, call_id, said, detail, number = read_marked(packet) if length >= STATS_SIZE else _NOTHING
            if sender == mark and said == length and call_id in calls and detail <= STATUS_MASK and is_plain:
                del calls[call_id]  # all is as it should be, and as a rule it is
                pid = pid or worker.pid
                tell(ended_type(call_id, detail, pid, packet, None))
            elif not self._read_other(worker, packet):
                break
            wall_ns += number
            if not calls:
                break
        return wall_ns

    def _read_other(self, worker: WorkerHandle, packet: bytes) -> bool:
        """Read a packet that is not a plain outcome; False if nothing more is to be read for now."""
        if not packet:  # no death ends the channel: we hold a copy of the worker's end
            if not (failpoints.armed and failpoints.hit("intake.shut_down")):
                self._floor.condemn(worker, "its channel was shut down by the task")
            return False
        kind, call_id, detail, number = frames.parse(packet, worker.incarnation, FROM_WORKER)
        if kind != Kind.OUTCOME:
            self._on_other(worker, kind, call_id, packet)
            return True
        if call_id not in worker.calls or len(packet) < OUTCOME_HEADER_SIZE:
            raise ProtocolError(f"an outcome of call {call_id} in {len(packet)} bytes")
        return self._take(worker, call_id, detail, number, packet)

    def _take(self, worker: WorkerHandle, call_id: int, detail: int, wall_ns: int, packet: bytes) -> bool:
        """Take one outcome; False if that has to wait, or if it is void."""
        if worker.order is not None and worker.order.call_id == call_id:
            worker.order.outcome_seen = True  # void: it was told to stop before this was read
            self._floor.condemn(worker)  # and there is nothing left to wait for
            return False
        segment = None
        if detail > STATUS_MASK:
            if detail & FLAG_RETIRING:
                self._floor.condemn(worker)  # it ends by itself; should it not, nobody would notice for seconds
            if detail & FLAG_SEGMENT:
                try:
                    segment = self._desk.claim(worker, call_id)
                except OutOfDescriptors:
                    self._postpone(worker, (call_id, detail, wall_ns, packet))
                    return False
        del worker.calls[call_id]
        self._floor.events.append(self._ended_type(call_id, detail & STATUS_MASK, worker.pid, packet, segment))
        return True

    def _postpone(self, worker: WorkerHandle, outcome: tuple[int, int, int, bytes]) -> None:
        """The segment of this outcome cannot be taken now: read nothing more of this worker for a moment."""
        worker.unclaimed = outcome
        if worker.unclaimed_since is None:
            worker.unclaimed_since = time.monotonic()
        self._floor.pause(worker.inbox.fd)

    def _claim_again(self, worker: WorkerHandle) -> int:
        """Try again to take the outcome that was postponed; returns its wall time, or 0 if it still has to wait."""
        assert worker.unclaimed is not None
        call_id, detail, wall_ns, packet = worker.unclaimed
        worker.unclaimed = None
        if self._take(worker, call_id, detail, wall_ns, packet):
            worker.unclaimed_since = None
            return wall_ns
        if worker.unclaimed_since is not None and time.monotonic() - worker.unclaimed_since > _CLAIM_LIMIT_S:
            self.give_up_claim(worker)
        return 0

    def give_up_claim(self, worker: WorkerHandle) -> None:
        """The segment of an outcome cannot be had: its call is lost, and its worker with it."""
        if worker.unclaimed is None:
            return
        call_id, _, wall_ns, _ = worker.unclaimed
        worker.unclaimed = None
        del worker.calls[call_id]
        why = "finished, but its result could not be taken over: too many open files in the coordinator"
        self._floor.events.append(CallLost(call_id, worker.pid, None, None, why, "", wall_ns / 1e9))
        self._floor.condemn(worker)

    def _on_other(self, worker: WorkerHandle, kind: int, call_id: int, packet: bytes) -> None:
        if kind == Kind.LOOK:
            worker.looks += 1
            if worker.looks > worker.sent:
                raise ProtocolError("it asks for more looks than it has had calls")
            return
        body = packet[frames.HEADER_SIZE :].decode("utf-8", "replace")
        if kind in {Kind.BOOTED, Kind.BOOT_FAILED}:
            self._on_start(worker, "" if kind == Kind.BOOTED else body or "it did not say why")
        elif call_id in worker.calls:  # UNDELIVERABLE
            wall_s = worker.running_s(call_id)
            del worker.calls[call_id]
            self._floor.events.append(CallLost(call_id, worker.pid, None, None, body, "", wall_s, undeliverable=True))
        else:
            raise ProtocolError(f"an end of call {call_id}, which it does not have")

    def _on_start(self, worker: WorkerHandle, error: str) -> None:
        """A worker says how its start went. One that was given up meanwhile holds nothing, and ends all the same."""
        if worker.has_spoken:
            raise ProtocolError("it told twice how its start went")  # and could keep us reading by telling it for ever
        worker.has_spoken = True
        if error:
            worker.boot_error = error
            worker.condemned = True
        elif not worker.boot_error:
            worker.booted = True
            self._capacity.booted()

    def _on_empty(self, worker: WorkerHandle) -> None:
        """A worker has nothing left to do."""
        if self._max_calls is not None and worker.sent >= self._max_calls:
            self._floor.condemn(worker)
