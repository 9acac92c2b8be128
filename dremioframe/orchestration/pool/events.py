"""What a lease tells its user: how calls ended.

What lives here: values. :class:`CallEnded` is made once per call, so it only wraps what was received; everything
else is read out of it when somebody asks.
"""

from __future__ import annotations

from . import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    from ..payload.segments import Segment
    from .frames import Stats
else:
    from ..light_typing import NamedTuple


class CallEnded:
    """The runner finished the call. A lease's user may have a class of its own made instead, derived from this one.

    Attributes:
        call_id: The call.
        status: What the runner returned as status, 0 to 255; opaque here.
        pid: Process that ran it.
        packet: The frame as received.
        segment: The payload if it did not fit in the packet; belongs to the receiver of this event.
    """

    __slots__ = ("call_id", "packet", "pid", "segment", "status")

    def __init__(self, call_id: int, status: int, pid: int, packet: bytes, segment: Segment | None) -> None:
        self.call_id = call_id
        self.status = status
        self.pid = pid
        self.packet = packet
        self.segment = segment

    @property
    def payload(self) -> memoryview | Segment:
        """What the runner returned, wherever it is."""
        if self.segment is not None:
            return self.segment
        return memoryview(self.packet)[frames.OUTCOME_HEADER_SIZE :]

    @property
    def measured(self) -> Stats:
        """What the call cost, as its worker measured it; read anew at each access."""
        return frames.read_stats(self.packet)

    @property
    def started_at_s(self) -> float:
        """When it started, CLOCK_MONOTONIC seconds."""
        return self.measured.started_ns / 1e9

    @property
    def wall_ns(self) -> int:
        """From its start, before anything was unpickled, until its outcome was ready to be sent."""
        return frames.read_number(self.packet)

    @property
    def wall_s(self) -> float:
        """Its duration."""
        return self.wall_ns / 1e9

    @property
    def cpu_s(self) -> float:
        """CPU time of the worker process during the call."""
        return self.measured.cpu_ns / 1e9

    @property
    def peak_memory_bytes(self) -> int:
        """Peak resident memory of the worker process."""
        return self.measured.peak_memory_bytes

    @property
    def peak_is_exact(self) -> bool:
        """False if the peak is the worker's high-water mark so far, not this call's own."""
        return self.measured.peak_is_exact

    @property
    def bytes_in(self) -> int:
        """Length of the call's body and of all answers it asked for."""
        return self.measured.bytes_in

    @property
    def bytes_out(self) -> int:
        """Length of the payload."""
        if self.segment is not None:
            return self.segment.size
        return len(self.packet) - frames.OUTCOME_HEADER_SIZE


class CallReturned(NamedTuple):
    """The call never started; it may be submitted again free of charge."""

    call_id: int


class CallLost(NamedTuple):
    """The worker died while it ran the call, or could not hand over its outcome.

    Attributes:
        call_id: The call.
        pid: Process that ran it.
        exit_code: Its exit code, or None if a signal ended it or its status is unknown.
        signal: The signal that ended it, or None.
        description: How it ended and the likely reason, in words.
        stack: What it wrote about itself when it crashed, if anything.
        wall_s: From its start until its end was noticed; None if its start is not known.
        undeliverable: The worker lives: the call has finished, and its payload could not be handed over.
        undead: The worker lives, though it was killed: the kernel does not let it go yet.
    """

    call_id: int
    pid: int
    exit_code: int | None
    signal: int | None
    description: str
    stack: str
    wall_s: float | None = None
    undeliverable: bool = False
    undead: bool = False


class CallStopped(NamedTuple):
    """The call is over on our order; its worker, and all that descended from it, is dead, unless it is undead.

    Attributes:
        call_id: The call.
        pid: Process that ran it.
        stack: Stacks of its threads when it was told to stop, if asked for and if it could be had.
        killed: True if it did not end by itself within its grace.
        wall_s: From its start until its end was noticed; None if its start is not known.
        undead: As in :class:`CallLost`.
    """

    call_id: int
    pid: int
    stack: str
    killed: bool
    wall_s: float | None = None
    undead: bool = False


class CallOverdue(NamedTuple):
    """The call has been running longer than its time-out. Said once; nothing is done about it."""

    call_id: int


class CallOverMemory(NamedTuple):
    """The call and what it has started use more private memory than its limit. Said once; nothing is done about it.

    Attributes:
        call_id: The call.
        limit_bytes: Its limit.
        used_bytes: What it uses, without what its worker held before.
        processes: (pid, short name, bytes) of each of its processes, the worker first.
        peak_bytes: The high-water mark of its worker's resident memory, of all kinds, so far.
    """

    call_id: int
    limit_bytes: int
    used_bytes: int
    processes: tuple[tuple[int, str, int], ...]
    peak_bytes: int


class MemoryShort(NamedTuple):
    """The machine is short of memory, so calls wait. Said once in a lease, about no call in particular.

    Attributes:
        text: How short, in words.
    """

    text: str
    call_id: int = 0


Event = CallEnded | CallReturned | CallLost | CallStopped | CallOverdue | CallOverMemory | MemoryShort
