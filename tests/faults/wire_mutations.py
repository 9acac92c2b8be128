"""Honest frames, and what can be wrong with them. For ``wire_fuzz`` in the coordinator, and in workers."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from dremioframe.orchestration import calls
from dremioframe.orchestration.payload import codec, segments
from dremioframe.orchestration.payload.failure import Failure
from dremioframe.orchestration.pool import frames, status_page
from dremioframe.orchestration.pool.frames import Kind
from dremioframe.orchestration.pool.status_page import RING_BYTES

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, MutableSequence

NUMBERS = (0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
_KINDS = [value for name, value in vars(Kind).items() if name.isupper()]
#: Offset and format of the header's fields.
_FIELDS = {"magic": (0, "<H"), "kind": (2, "<H"), "incarnation": (4, "<I"), "call": (8, "<Q"), "length": (16, "<I"),
           "detail": (20, "<I"), "number": (24, "<Q")}  # fmt: skip
_FAILURE_BODY = Failure.payload("result_pickle", "x", "no").to_bytes()
_FAILURE = calls.pack_failure_head(retryable=True, retry_delay_s=0.5) + _FAILURE_BODY
_DELAYS = (float("nan"), float("inf"), -5.0, 1e308)
_VALUE = codec.encode({"rows": [1, 2.5, "three"]}).to_bytes()
_STATS = (1, 2, 3, 4)


def segment_fd(data: bytes, *, seal: bool = True) -> int:
    fd = segments.memory_file("fuzz")
    os.pwrite(fd, data, 0)
    if seal:
        segments.seal(fd)
    return fd


class Mutator:
    """Makes frames out of one random number generator. ``fixed`` bytes of a header are never flipped."""

    def __init__(self, chance: random.Random, fixed: Iterable[int] = ()) -> None:
        self.chance = chance
        self.fixed = frozenset(fixed)
        self.sent: list[bytes] = []  # earlier packets, for stale ones

    # ------------------------------------------------------------------------------------------------------ where to

    def inbox(self, incarnation: int, call_id: int, held: Iterable[int] = ()) -> list[bytes]:
        honest = [
            self._inbox_frame(incarnation, each) for each in ([call_id, *held][: self.chance.choice((1, 1, 1, 3))])
        ]
        return self._packets(honest)

    def side(self, incarnation: int, call_id: int) -> tuple[list[bytes], list[int]]:
        chance = self.chance
        if chance.random() < 0.5:
            question = chance.choice((calls.Request.VALUE + b"name", calls.Request.CODE + bytes(16), b"", b"\xff" * 40))
            honest, fds = frames.pack(Kind.REQUEST, incarnation, call_id, question, 2**31 + chance.randrange(9)), []
        else:
            honest, fds = frames.pack(Kind.RESULT, incarnation, call_id), self._descriptors()
        return self._packets([honest]), fds

    def control(self, incarnation: int, pidfd: int) -> tuple[list[bytes], list[int]]:
        chance = self.chance
        kind = chance.choice((Kind.READY, Kind.ZYGOTE_FAILED, Kind.FORKED, Kind.FORK_FAILED, Kind.EXITED))
        body = b"traceback" if kind == Kind.ZYGOTE_FAILED else b""
        honest = frames.pack(kind, incarnation, 0, body, 3_999_999 if kind != Kind.FORK_FAILED else 11, 0)
        fds = [os.dup(pidfd)] if kind == Kind.FORKED else []
        if chance.random() < 0.3:
            os_fds, fds = fds, self._descriptors()
            for fd in os_fds:
                os.close(fd)
        return self._packets([honest]), fds

    def ring(self, ring: memoryview, slots: MutableSequence[int], incarnation: int, held: list[int]) -> None:
        """Entries as a worker writes them, with something wrong in the bytes or in the positions."""
        chance = self.chance
        written = slots[status_page.WRITTEN]
        for call_id in held[: chance.randrange(1, 3)]:
            at = written % RING_BYTES
            entry = chance.choice(self._packets([self._inbox_frame(incarnation, call_id)]))
            if chance.random() < 0.3:
                entry = frames.pack_outcome(incarnation, call_id, 0, 5, _STATS, _VALUE)
            room = RING_BYTES - at
            ring[at : at + min(len(entry), room)] = entry[:room]
            written += (len(entry) + 7) & ~7
        wrong = chance.random()
        if wrong < 0.2:
            written += chance.choice((-8, 1, 8, RING_BYTES, RING_BYTES + 8))
        elif wrong < 0.3:
            written = chance.choice(NUMBERS)
        slots[status_page.WRITTEN] = written % 2**64
        if chance.random() < 0.1:
            slots[status_page.READ] = chance.choice(NUMBERS)

    def page(self, slots: MutableSequence[int], call_id: int) -> None:
        for slot in range(8):
            if self.chance.random() < 0.4:
                slots[slot] = self.chance.choice((*NUMBERS, self.chance.getrandbits(64)))
        if self.chance.random() < 0.5:
            slots[status_page.RUNNING] = call_id

    def values(self) -> list[bytes]:
        inputs = calls.pack_inputs([("first", _VALUE), ("second", b"")])
        honest = self.chance.choice((_VALUE, _FAILURE, _FAILURE[calls.FAILURE_HEAD_SIZE :], inputs))
        return [self._damaged(honest)]

    # ---------------------------------------------------------------------------------------------------------- what

    def _inbox_frame(self, incarnation: int, call_id: int) -> bytes:
        chance = self.chance
        match chance.randrange(10):
            case 0:
                return frames.pack(chance.choice((Kind.BOOTED, Kind.BOOT_FAILED)), incarnation, 0, b"why")
            case 1:
                return frames.pack(Kind.UNDELIVERABLE, incarnation, call_id, b"why")
            case 2:
                flag = chance.choice((frames.FLAG_SEGMENT, frames.FLAG_RETIRING, 0x300, 0x400))
                return frames.pack_outcome(incarnation, call_id, flag, 5, _STATS, b"")
            case 3 | 4:
                status = chance.choice((1, 2, 3, 4, 5, 6, 7, 255))
                body = calls.pack_failure_head(retryable=True, retry_delay_s=chance.choice(_DELAYS)) + _FAILURE_BODY
                if chance.random() < 0.5:
                    body = self._damaged(_FAILURE)
                return frames.pack_outcome(incarnation, call_id, status, 5, _STATS, body)
            case _:
                return frames.pack_outcome(incarnation, call_id, 0, 5, _STATS, _VALUE)

    def _descriptors(self) -> list[int]:
        chance = self.chance
        match chance.randrange(7):
            case 0:
                return []
            case 1:
                return [segment_fd(b"x" * 100, seal=False)]
            case 2:
                return [os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_RDWR)]
            case 3:
                return [segment_fd(b"x") for _ in range(chance.choice((2, 3, 10)))]
            case 4:
                return [os.eventfd(0)]
            case 5:  # a terabyte that nobody has written
                fd = segment_fd(b"", seal=False)
                os.truncate(fd, 1 << 40)
                segments.seal(fd)
                return [fd]
            case _:
                return [segment_fd(_VALUE)]

    # ----------------------------------------------------------------------------------------------------------- how

    def _packets(self, honest: list[bytes]) -> list[bytes]:
        """Damage one of them, send one twice, change the order, add an old one; or do nothing."""
        chance = self.chance
        packets = list(honest)
        match chance.randrange(8):
            case 0:
                packets += packets[:1]
            case 1:
                packets.reverse()
            case 2 if self.sent:
                packets.insert(chance.randrange(len(packets) + 1), chance.choice(self.sent))
            case 3:
                pass
            case _:
                victim = chance.randrange(len(packets))
                packets[victim] = (
                    self._field(packets[victim]) if chance.random() < 0.5 else self._damaged(packets[victim])
                )
        self.sent = [*self.sent[-20:], *honest]
        return [packet or b"\0" for packet in packets]  # an empty one cannot be sent

    def _field(self, packet: bytes) -> bytes:
        chance = self.chance
        name = chance.choice(list(_FIELDS))
        at, layout = _FIELDS[name]
        if len(packet) < frames.HEADER_SIZE or at in self.fixed:
            return packet[1:]
        value = chance.choice(_KINDS) if name == "kind" and chance.random() < 0.5 else chance.choice(NUMBERS)
        changed = bytearray(packet)
        struct.pack_into(layout, changed, at, value % 2 ** (8 * struct.calcsize(layout)))
        return bytes(changed)

    def _damaged(self, data: bytes) -> bytes:
        chance = self.chance
        match chance.randrange(5):
            case 0:
                return data[: chance.randrange(len(data) + 1)]
            case 1:
                return data + chance.randbytes(chance.choice((1, 8, 1000, 70_000)))
            case 2:
                return chance.randbytes(chance.randrange(1, 200))
            case _:
                changed = bytearray(data)
                for _ in range(chance.randrange(1, 9)):
                    at = chance.randrange(len(changed))
                    if at not in self.fixed:
                        changed[at] ^= 1 << chance.randrange(8)
                return bytes(changed)
