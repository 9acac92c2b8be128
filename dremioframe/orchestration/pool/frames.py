"""Frames: what one packet between coordinator, zygote and worker looks like. Sans I/O.

Every channel is a SOCK_SEQPACKET socket pair, so a packet is a frame and there are no partial reads. A frame is a fixed
header and an opaque body::

    magic+version  kind  incarnation  call id  body length  detail  number  | body
    u16            u16   u32          u64      u32          u32     u64

``incarnation`` numbers the workers of a pool and never repeats, so nothing of a dead worker can be taken for its
successor's. ``detail`` and ``number`` mean what the kind says.

What lives here: layouts and the one check that every received packet goes through. What may not: sockets, clocks, and
any reaction. Whatever bytes come in, :func:`parse` gives a frame or raises :class:`ProtocolError`, never anything else.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NamedTuple
else:
    from ..light_typing import NamedTuple

#: Two letters and the version of this format. Both ends come from the same files; a mismatch is a mix of versions.
_MAGIC = 0xDF01

_HEADER = struct.Struct("<HHIQIIQ")
HEADER_SIZE = _HEADER.size
_PEEK = struct.Struct("<H14xI")

#: Most bytes of a packet. The default send buffer of a socket is 212,992 bytes, and a packet has to fit in it whole.
PACKET_LIMIT = 204_800

#: Most bytes of an outcome or an answer that ride in the packet; above, they travel as a segment.
INLINE_LIMIT = 65_536


class Kind:
    """What a frame says, and which of its fields are used.

    Plain integers, not an enum: they are compared once per call on the hot path.
    """

    # inbox: coordinator -> worker
    CALL = 1
    # inbox: worker -> coordinator
    BOOTED = 16
    BOOT_FAILED = 17  # body = traceback
    OUTCOME = 18  # detail = status | flags, number = wall time in ns, body = STATS + payload
    UNDELIVERABLE = 19  # the call ended but its outcome cannot be handed over; body = why
    LOOK = 20  # outcomes are in the ring, and no packet will follow them
    # side channel: worker -> coordinator
    REQUEST = 32  # detail = request number
    RESULT = 33  # carries the segment of an OUTCOME that follows on the inbox
    # side channel: coordinator -> worker; detail = number of the request that is answered
    ANSWER = 40
    ANSWER_SEGMENT = 41  # carries the segment; body = PLACE
    REFUSAL = 42  # body = why
    # control: coordinator -> zygote
    FORK = 64  # carries inbox, side channel and page
    # control: zygote -> coordinator
    READY = 80
    ZYGOTE_FAILED = 81  # body = traceback, detail = errno if the system was short of something
    FORKED = 82  # detail = pid; carries the worker's pidfd
    FORK_FAILED = 83  # detail = errno
    EXITED = 84  # detail = pid, number = see pack_exit


FROM_WORKER = frozenset((Kind.BOOTED, Kind.BOOT_FAILED, Kind.OUTCOME, Kind.UNDELIVERABLE, Kind.LOOK))
FROM_SIDE = frozenset((Kind.REQUEST, Kind.RESULT))
TO_SIDE = frozenset((Kind.ANSWER, Kind.ANSWER_SEGMENT, Kind.REFUSAL))
TO_ZYGOTE = frozenset((Kind.FORK,))
FROM_ZYGOTE = frozenset((Kind.READY, Kind.ZYGOTE_FAILED, Kind.FORKED, Kind.FORK_FAILED, Kind.EXITED))

#: OUTCOME: low byte of ``detail`` is the runner's status, above it are flags.
STATUS_MASK = 0xFF
FLAG_SEGMENT = 0x100  # the payload is a segment, sent before on the side channel
FLAG_RETIRING = 0x200  # the worker ends after this outcome and takes no further call

#: OUTCOME: start (CLOCK_MONOTONIC ns), CPU ns, peak memory in KiB * 2 + (1 if it is this call's own peak), bytes in.
_STATS = struct.Struct("<QQQQ")
STATS_SIZE = _STATS.size
OUTCOME_HEADER_SIZE = HEADER_SIZE + STATS_SIZE
_OUTCOME = struct.Struct(_HEADER.format + _STATS.format.lstrip("<"))
_OUTCOME_KIND = Kind.OUTCOME

#: The same header with everything that tells one worker's frames of one kind from others in the first number: see
#: :func:`mark`. What crosses once per call is packed and read with these.
_MARKED_CALL = struct.Struct("<QQI12x")
_MARKED_OUTCOME = struct.Struct("<QQIIQ")
_MARK_SIZE = 8

#: ANSWER_SEGMENT: where the answer begins in the file that comes with it, and its length.
_PLACE = struct.Struct("<QQ")

#: One byte more than the longest legal outcome: a longer one is cut there, and then its length is wrong.
OUTCOME_RECEIVE_SIZE = OUTCOME_HEADER_SIZE + INLINE_LIMIT + 1


class ProtocolError(Exception):
    """The other side sent something that is no frame. It costs that worker, never the run."""


class Stats(NamedTuple):
    """What a call cost, as its worker measured it.

    Attributes:
        started_ns: CLOCK_MONOTONIC at its start.
        cpu_ns: CPU time of the worker process.
        peak_memory_bytes: Peak resident memory.
        peak_is_exact: False if that is the worker's high-water mark so far, not this call's own peak.
        bytes_in: Length of the call's body and of all answers it asked for.
    """

    started_ns: int
    cpu_ns: int
    peak_memory_bytes: int
    peak_is_exact: bool
    bytes_in: int


def parse(packet: bytes, incarnation: int, kinds: frozenset[int]) -> tuple[int, int, int, int]:
    """Check the header of ``packet`` and give its (kind, call id, detail, number).

    Args:
        packet: As received.
        incarnation: The worker that this channel belongs to.
        kinds: What this channel may carry in this direction.

    Raises:
        ProtocolError: It is not a frame, not of that worker, or not of these kinds.
    """
    if len(packet) < HEADER_SIZE:
        raise ProtocolError(f"a packet of {len(packet)} bytes is shorter than a header")
    magic, kind, sender, call_id, length, detail, number = _HEADER.unpack_from(packet)
    if magic == _MAGIC and kind in kinds and sender == incarnation and length == len(packet) - HEADER_SIZE:
        return kind, call_id, detail, number
    raise ProtocolError(
        f"a packet of {len(packet)} bytes with magic {magic:#06x}, kind {kind}, worker {sender} and a body of "
        f"{length} bytes does not belong on this channel of worker {incarnation}"
    )


def parse_any_sender(packet: bytes, kinds: frozenset[int]) -> tuple[int, tuple[int, int, int, int]]:
    """As :func:`parse`, on the control channel, which speaks of all workers; gives the incarnation before the rest."""
    if len(packet) < HEADER_SIZE:
        raise ProtocolError(f"a packet of {len(packet)} bytes is shorter than a header")
    incarnation: int = _HEADER.unpack_from(packet)[2]
    return incarnation, parse(packet, incarnation, kinds)


def pack(
    kind: int,
    incarnation: int,
    call_id: int = 0,
    body: bytes | bytearray | memoryview = b"",
    detail: int = 0,
    number: int = 0,
) -> bytes:
    """One frame with a body in one piece."""
    return _HEADER.pack(_MAGIC, kind, incarnation, call_id, len(body), detail, number) + body


def mark(kind: int, incarnation: int) -> int:
    """Magic, version, kind and incarnation as the one number that a frame begins with."""
    return int.from_bytes(pack(kind, incarnation)[:_MARK_SIZE], "little")


def pack_call(call_mark: int, call_id: int, body: bytes) -> bytes:
    """A CALL frame; apart from :func:`pack` only because it is packed once per call."""
    return _MARKED_CALL.pack(call_mark, call_id, len(body)) + body


#: (mark, call id, body length, detail, number) of a packet of at least a header's length. Nothing is checked: for a
#: reader that compares all of it and leaves what is not as it should be to :func:`parse`.
read_marked: Callable[[bytes], tuple[int, int, int, int, int]] = _MARKED_OUTCOME.unpack_from


def pack_outcome(
    incarnation: int, call_id: int, detail: int, wall_ns: int, stats: tuple[int, int, int, int], payload: bytes
) -> bytes:
    """An OUTCOME frame; ``stats`` are the four numbers of the statistics as they travel."""
    length = STATS_SIZE + len(payload)
    return _OUTCOME.pack(_MAGIC, _OUTCOME_KIND, incarnation, call_id, length, detail, wall_ns, *stats) + payload


def read_number(packet: bytes) -> int:
    """The number of a frame of legal length."""
    number: int = _MARKED_OUTCOME.unpack_from(packet)[4]
    return number


def read_stats(packet: bytes) -> Stats:
    """The statistics of an OUTCOME of legal length."""
    started_ns, cpu_ns, peak, bytes_in = _STATS.unpack_from(packet, HEADER_SIZE)
    return Stats(started_ns, cpu_ns, (peak >> 1) * 1024, bool(peak & 1), bytes_in)


def pack_place(offset: int, size: int) -> bytes:
    """The body of an ANSWER_SEGMENT."""
    return _PLACE.pack(offset, size)


def read_place(packet: bytes) -> tuple[int, int]:
    """(offset, size) out of an ANSWER_SEGMENT of our own."""
    offset, size = _PLACE.unpack_from(packet, HEADER_SIZE)
    return offset, size


def read_call_id(packet: bytes | bytearray) -> int:
    """The call id in a frame of our own, of which at least the header was received."""
    call_id: int = _HEADER.unpack_from(packet)[3]
    return call_id


def peek(buffer: memoryview, at: int) -> int:
    """The size of the frame that begins there, unchecked; 0 if there are zeros instead."""
    magic, length = _PEEK.unpack_from(buffer, at)
    return HEADER_SIZE + length if magic else 0


def pack_exit(exit_code: int | None, signal: int | None) -> int:
    """How a process ended, as the ``number`` of EXITED: exit code, 256 + signal, or 0xFFFF for unknown."""
    if signal is not None:
        return 256 + signal
    return 0xFFFF if exit_code is None else exit_code & 0xFF


def read_exit(number: int) -> tuple[int | None, int | None]:
    """(exit code, signal) out of :func:`pack_exit`; both None if unknown."""
    if number < 256:
        return number, None
    if number < 512:
        return None, number - 256
    return None, None
