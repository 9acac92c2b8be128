"""Values that cannot be encoded, and bytes that cannot be decoded: bad ones, damaged ones."""

from __future__ import annotations

import collections
import random
import struct
import sys
import threading
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from dremioframe.orchestration.payload import codec
from dremioframe.orchestration.payload.codec import DecodeError, EncodeError, Payload

if TYPE_CHECKING:
    from pathlib import Path


# --- what cannot be encoded -------------------------------------------------------------------------------------------


class Raises:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (threading.Lock(), "", "cannot pickle '_thread.lock' object"),
        ({"rows": [1, 2, 3, collections.UserDict(lock=threading.Lock())]}, "['rows'][3].data['lock']", "_thread.lock"),
        ([1, (2, (x for x in ()))], "[1][1]", "generator"),
        ([sys.__stdin__], "[0]", "cannot pickle an open file"),
        ([Raises(SystemExit(3))], "[0]", "SystemExit: 3"),
        ([Raises(AttributeError("own fault"))], "[0]", "AttributeError: own fault"),
        ({"x": Raises(RecursionError())}, "['x']", "recursion"),
    ],
)
def test_p1_p2_p5_the_error_names_path_and_reason(value: object, path: str, reason: str) -> None:
    with pytest.raises(EncodeError) as caught:
        codec.encode(value)
    assert caught.value.path == path
    assert reason in caught.value.reason


def test_an_open_file_is_not_sent_as_its_contents(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+") as file, pytest.raises(EncodeError, match="open file"):
        codec.encode({"log": file})


def test_p2_an_interrupt_that_an_object_makes_up_is_its_own_doing() -> None:
    with pytest.raises((EncodeError, KeyboardInterrupt)) as caught:  # the second would end the whole suite
        codec.encode([Raises(KeyboardInterrupt())])
    assert type(caught.value) is EncodeError
    assert "KeyboardInterrupt" in str(caught.value)


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_p6_deep_nesting_is_an_error_and_no_crash(kind: type) -> None:
    value: Any = None
    for _ in range(100_000):
        value = {"k": value} if kind is dict else kind([value])
    with pytest.raises(EncodeError, match="recursion"):
        codec.encode(value)
    while value:  # taken apart by hand: a failing assertion above would let the interpreter recurse over it
        value = value["k"] if kind is dict else value[0]


# --- what cannot be decoded -------------------------------------------------------------------------------------------


def samples() -> list[bytes]:
    values: list[object] = [
        None, 5, {"a": [1, 2, ("x", b"y")]}, "x" * 300, ValueError("x"), [np.arange(200), np.arange(300)],
        {"a": np.arange(1000.0), "b": [np.arange(129)] * 2},
    ]  # fmt: skip
    return [codec.encode(value).to_bytes() for value in values]


def mutated(data: bytes, chance: random.Random) -> bytes:
    blob = bytearray(data)
    match chance.randrange(7):
        case 0:
            blob[chance.randrange(len(blob))] ^= 1 << chance.randrange(8)
        case 1:
            del blob[chance.randrange(len(blob)) :]
        case 2:
            blob += chance.randbytes(chance.randrange(1, 100))
        case 3:
            start = chance.randrange(len(blob))
            blob[start : start + 8] = struct.pack("<Q", chance.choice([0, 1, 2**31 - 1, 2**31, 2**63 - 1, 2**64 - 1]))
        case 4:
            start = chance.randrange(len(blob))
            del blob[start : start + chance.randrange(1, 20)]
        case 5:
            start = chance.randrange(len(blob))
            blob[start:start] = blob[: chance.randrange(1, 50)]
        case 6:
            blob[:] = chance.randbytes(chance.randrange(200))
    return bytes(blob)


def test_damaged_bytes_are_a_decode_error_and_never_anything_else() -> None:
    chance = random.Random(20_260_807)
    accepted = 0
    for data in samples():
        for _ in range(3000):
            damaged = mutated(data, chance)
            try:
                codec.decode(damaged, private=False)
                accepted += damaged != data
            except DecodeError:
                continue
    assert accepted < 3000  # only what damages the contents of a buffer, or the padding, may pass


def sealed(head: bytes, rest: bytes = b"") -> bytes:
    """A head with a checksum that fits."""
    return head + zlib.crc32(head).to_bytes(4, "little") + rest


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"dfp1",
        bytes(15),
        bytes(1000),
        sealed(struct.pack("<4sIQ", b"dfp1", 2**32 - 1, 0)),
        sealed(struct.pack("<4sIQ", b"dfp1", 0, 2**64 - 1)),
        sealed(struct.pack("<4sIQQ", b"dfp1", 1, 0, 2**64 - 1)),
        sealed(struct.pack("<4sIQQ", b"dfp1", 1, 0, 1 << 40)),
        sealed(struct.pack("<4sIQQ", b"dfp1", 1, 0, 0), b"trailing"),
        sealed(struct.pack("<4sIQ", b"DFP1", 0, 0)),
        sealed(b"\x80\x05]"),
        sealed(b"\x80\x05N"),
        sealed(b"\x80\x05\x97."),
        sealed(b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"."),
        sealed(b"\x80\x05\x8e" + struct.pack("<Q", 1 << 62) + b"."),
        sealed(b"\x80\x05\x8c\x03no_\x8c\x01x\x93."),
    ],
    ids=range(17),
)
def test_lengths_are_never_trusted(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            codec.decode(data, private=False)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_decode_takes_any_bytes_like() -> None:
    for value in (5, np.arange(1000)):
        data = codec.encode(value).to_bytes()
        for kind in (bytes, bytearray, memoryview):
            np.testing.assert_array_equal(codec.decode(kind(data), private=False), value)
            np.testing.assert_array_equal(codec.decode(kind(data), private=True), value)
    array = codec.decode(bytes(data), private=True)  # nobody's to write to: copied all the same
    array[0] = 1


def test_payload_is_a_plain_value() -> None:
    assert Payload((b"a", b"bc"), 3).to_bytes() == b"abc"
    assert not hasattr(Payload((), 0), "__dict__")
