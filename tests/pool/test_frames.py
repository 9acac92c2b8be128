"""Frames: whatever bytes come in, the answer is a frame or ProtocolError."""

from __future__ import annotations

import random

import pytest

from dremioframe.orchestration.pool import frames
from dremioframe.orchestration.pool.frames import Kind, ProtocolError

CALLS = frozenset((Kind.CALL,))  # a worker trusts its coordinator, and does not parse
ALL_KINDS = CALLS | frames.FROM_WORKER | frames.FROM_SIDE | frames.TO_SIDE | frames.TO_ZYGOTE | frames.FROM_ZYGOTE


def test_what_is_packed_is_parsed():
    packet = frames.pack(Kind.REQUEST, 7, 2**63, b"body", detail=2**32 - 1, number=2**64 - 1)
    assert frames.parse(packet, 7, frames.FROM_SIDE) == (Kind.REQUEST, 2**63, 2**32 - 1, 2**64 - 1)
    assert packet[frames.HEADER_SIZE :] == b"body"


def test_a_call():
    packet = frames.pack_call(frames.mark(Kind.CALL, 7), 99, b"body")
    assert frames.parse(packet, 7, CALLS) == (Kind.CALL, 99, 0, 0)
    assert frames.read_call_id(packet[: frames.HEADER_SIZE]) == 99


def test_a_mark_tells_kind_and_worker():
    packet = frames.pack_outcome(3, 5, 2, 1234, (10, 20, 7, 30), b"payload")
    body_length = len(packet) - frames.HEADER_SIZE
    assert frames.read_marked(packet) == (frames.mark(Kind.OUTCOME, 3), 5, body_length, 2, 1234)
    marks = {frames.mark(kind, worker) for kind in sorted(ALL_KINDS) for worker in (0, 1, 2**32 - 1)}
    assert len(marks) == 3 * len(ALL_KINDS)
    assert 0 not in marks  # which stands for a packet without a header


def test_an_outcome_and_its_statistics():
    packet = frames.pack_outcome(3, 5, 2 | frames.FLAG_SEGMENT, 1234, (10, 20, 7 << 1 | 1, 30), b"payload")
    assert frames.parse(packet, 3, frames.FROM_WORKER) == (Kind.OUTCOME, 5, 2 | frames.FLAG_SEGMENT, 1234)
    assert packet[frames.OUTCOME_HEADER_SIZE :] == b"payload"
    assert frames.read_stats(packet) == (10, 20, 7 * 1024, True, 30)


@pytest.mark.parametrize("payload", [b"", b"x", b"x" * frames.INLINE_LIMIT])
def test_the_longest_legal_outcome_fits_the_receive_size(payload):
    packet = frames.pack_outcome(3, 5, 0, 0, (0, 0, 0, 0), payload)
    assert len(packet) < frames.OUTCOME_RECEIVE_SIZE


def test_a_packet_that_was_cut_is_no_frame():
    packet = frames.pack_outcome(3, 5, 0, 0, (0, 0, 0, 0), b"x" * (frames.INLINE_LIMIT + 100))
    with pytest.raises(ProtocolError):
        frames.parse(packet[: frames.OUTCOME_RECEIVE_SIZE], 3, frames.FROM_WORKER)


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (b"", "0 bytes"),
        (b"\0" * (frames.HEADER_SIZE - 1), "31 bytes"),
        (b"\0" * frames.HEADER_SIZE, "magic 0x0000"),
        (frames.pack(Kind.CALL, 1), "kind 1"),
        (frames.pack(Kind.BOOTED, 2), "worker 2"),
        (frames.pack(Kind.BOOTED, 1, body=b"x")[:-1], "body of 1"),
        (frames.pack(Kind.BOOTED, 1) + b"x", "body of 0"),
    ],
)
def test_what_is_wrong_is_said(packet, words):
    with pytest.raises(ProtocolError, match=words):
        frames.parse(packet, 1, frames.FROM_WORKER)


@pytest.mark.parametrize("exit_status", [(0, None), (255, None), (None, 9), (None, 64), (None, None)])
def test_exits(exit_status):
    assert frames.read_exit(frames.pack_exit(*exit_status)) == exit_status


def test_kinds_are_told_apart():
    values = [value for name, value in vars(Kind).items() if name.isupper()]
    assert len(values) == len(set(values)) == len(ALL_KINDS)


LENGTHS = (0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**63 - 1)


def mutate(packet: bytes, dice: random.Random) -> bytes:
    data = bytearray(packet)
    match dice.randrange(6):
        case 0:  # flip
            for _ in range(dice.randint(1, 8)):
                if data:
                    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        case 1:  # cut
            del data[dice.randint(0, len(data)) :]
        case 2:  # grow
            data += dice.randbytes(dice.randint(1, 64))
        case 3:  # a number that lies
            at = dice.randrange(max(1, len(data) - 8))
            data[at : at + 8] = (dice.choice(LENGTHS)).to_bytes(8, "little")
        case 4:  # twice
            data *= 2
        case 5:  # noise
            data = bytearray(dice.randbytes(len(data)))
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_f15_mutated_frames_give_a_frame_or_protocol_error(seed):
    dice = random.Random(seed)
    originals = [
        frames.pack(kind, 1, dice.getrandbits(64), dice.randbytes(dice.randint(0, 200)), dice.getrandbits(32))
        for kind in ALL_KINDS
    ]
    originals.append(frames.pack_outcome(1, 5, 0, 9, (1, 2, 3, 4), b"payload"))
    legal = 0
    for _ in range(25_000):
        packet = mutate(dice.choice(originals), dice)
        kinds = dice.choice([frames.FROM_WORKER, frames.FROM_SIDE, frames.FROM_ZYGOTE, ALL_KINDS])
        try:
            kind, *_ = frames.parse(packet, 1, kinds)
        except ProtocolError:
            continue
        legal += 1
        assert kind in kinds
        if kind == Kind.OUTCOME and len(packet) >= frames.OUTCOME_HEADER_SIZE:
            frames.read_stats(packet)
    assert legal < 25_000


@pytest.mark.parametrize("seed", range(2))
def test_f15_the_control_channels_frames_too(seed):
    dice = random.Random(seed)
    for _ in range(10_000):
        packet = mutate(frames.pack(Kind.EXITED, dice.getrandbits(32), detail=5, number=9), dice)
        try:
            frames.parse_any_sender(packet, frames.FROM_ZYGOTE)
        except ProtocolError:
            continue
