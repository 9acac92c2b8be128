"""Values to bytes and back: small ones, big ones, frames."""

from __future__ import annotations

import collections
import datetime as dt
import gc
import mmap
import pickle
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from travels import both_ways, through_bytes, through_segment

from dremioframe.orchestration.payload import codec
from dremioframe.orchestration.payload.codec import DecodeError
from dremioframe.orchestration.payload.segments import Segment

# --- values -----------------------------------------------------------------------------------------------------------

SMALL: list[object] = [
    None, True, 0, -1, 2**100, 1.5, float("inf"), "", "ä\ud800\U0001f600", b"", b"\x80", [], (), {}, set(),
    frozenset({1}),
    bytearray(b""), bytearray(b"x"), [None, [b"", ""], {"a": ()}], range(5), slice(1, 2), 1 + 2j, ..., NotImplemented,
    dt.datetime(2020, 1, 1, tzinfo=dt.UTC), Path("/tmp"), collections.deque([1], 3),
    collections.OrderedDict(a=1), collections.Counter("aab"), ValueError("x"), "x" * 100_000, b"x" * 100_000,
]  # fmt: skip


@both_ways
@pytest.mark.parametrize("value", SMALL, ids=lambda value: repr(value)[:20])
def test_p9_small_values(value: object, travel: Any) -> None:
    copy = travel(value)
    assert type(copy) is type(value)
    assert repr(copy) == repr(value)


@pytest.mark.parametrize("value", SMALL, ids=lambda value: repr(value)[:20])
def test_size_is_the_length_of_the_parts(value: object) -> None:
    payload = codec.encode(value)
    assert payload.size == len(payload.to_bytes()) == sum(map(len, payload.parts))


@both_ways
@pytest.mark.parametrize("size", [16_384, 16_385, 1_000_000])
def test_long_bytes_are_written_as_they_are(travel: Any, size: int) -> None:
    value = bytes(range(256)) * (size // 256) + bytes(size % 256)
    payload = codec.encode(value)
    copied = sum(len(part) for part in payload.parts if type(part) is bytes)
    assert copied < 300 or size <= 16_384
    back = travel(value)
    assert type(back) is bytes
    assert back == value


def test_a_small_value_costs_its_pickle_and_four_bytes() -> None:
    for value in (None, 5, {"a": 1}, [1, 2, 3]):
        assert codec.encode(value).size == len(pickle.dumps(value, 5)) + 4
        assert len(codec.encode(value).parts) == 1


@both_ways
def test_shared_and_cyclic_objects_keep_their_shape(travel: Any) -> None:
    shared = [1]
    cycle: list[Any] = [shared, shared]
    cycle.append(cycle)
    copy = travel(cycle)
    assert copy[0] is copy[1]
    assert copy[2] is copy


# --- out of band ------------------------------------------------------------------------------------------------------


def arrays() -> dict[str, Any]:
    return {
        "float": np.arange(10_000.0),
        "two-dimensional": np.arange(10_000).reshape(100, 100),
        "fortran": np.asfortranarray(np.arange(10_000).reshape(100, 100)),
        "strided": np.arange(20_000)[::2],
        "empty": np.empty(0),
        "empty-2d": np.empty((0, 5)),
        "scalar": np.array(5),
        "small": np.arange(3),
        "records": np.zeros(1000, dtype=[("a", "i4"), ("b", "f8")]),
        "dates": np.arange(5000).astype("M8[s]"),
        "text": np.array(["abc", "de"] * 1000),
        "objects": np.array([{"a": 1}, None] * 10, dtype=object),
    }


@both_ways
@pytest.mark.parametrize("name", arrays())
def test_numpy_arrays_come_out_equal_writable_and_independent(name: str, travel: Any) -> None:
    array = arrays()[name]
    copy = travel(array)
    np.testing.assert_array_equal(copy, array)
    assert copy.dtype == array.dtype
    assert copy.flags.writeable
    if copy.size:
        before = array.copy()
        copy[...] = copy.flat[0]
        np.testing.assert_array_equal(array, before)


@both_ways
@pytest.mark.parametrize("name", [name for name in arrays() if name != "objects"])
def test_p12_read_only_arrays_come_out_writable(name: str, travel: Any) -> None:
    array = arrays()[name]
    array.flags.writeable = False
    copy = travel([array])[0]
    np.testing.assert_array_equal(copy, array)
    assert copy.flags.writeable
    assert not array.flags.writeable


@both_ways
def test_array_over_memory_that_cannot_be_written(travel: Any) -> None:
    array = np.frombuffer(bytes(range(256)) * 100, dtype=np.uint8)
    copy = travel(array)
    copy[0] = 99
    assert array[0] == 0


def test_buffers_lie_on_64_byte_boundaries() -> None:
    payload = codec.encode([np.arange(200 + n) for n in range(20)])
    segment = Segment.create(payload.parts, payload.size)
    for array in codec.decode(segment.map(), private=True):
        assert array.ctypes.data % 64 == 0
    segment.close()


def test_a_mapped_array_is_no_copy_and_keeps_the_mapping_alive() -> None:
    payload = codec.encode({"a": np.arange(100_000), "b": np.arange(100_000)})
    segment = Segment.create(payload.parts, payload.size)
    one, two = (codec.decode(segment.map(), private=True) for _ in range(2))
    segment.close()
    rest = one.pop("b")
    del one
    gc.collect()
    rest += 1
    assert rest[-1] == 100_000
    assert two["b"][-1] == 99_999  # nobody else saw it
    assert mapped_bytes() >= payload.size
    del rest, two
    gc.collect()
    assert mapped_bytes() == 0


def mapped_bytes() -> int:
    total = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "memfd:dremioframe" in line:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            total += end - start
    return total


def test_large_arrays_are_not_copied_while_encoding() -> None:
    array = np.zeros(50_000_000, dtype=np.uint8)
    tracemalloc.start()
    try:
        payload = codec.encode([array])
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert payload.size > array.nbytes
    assert any(np.shares_memory(array, np.frombuffer(part, np.uint8)) for part in payload.parts if len(part))


def test_p11_ten_thousand_buffers() -> None:
    value = [np.full(256, n) for n in range(10_000)]
    payload = codec.encode(value)
    assert len(payload.parts) > 10_000
    for copy in (through_segment(value), through_bytes(value)):
        assert all(array[0] == n for n, array in enumerate(copy))


class Buffers:
    """Pickles as any number of raw buffers."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return bring_together, tuple(map(pickle.PickleBuffer, self.parts))


def bring_together(*parts: Any) -> list[bytes]:
    return [bytes(part) for part in parts]


@both_ways
def test_p9_empty_buffers_in_every_position(travel: Any) -> None:
    big = b"x" * 5000
    for parts in ([b""], [b"", big], [big, b""], [big, b"", big], [b"", b""], [bytearray(), big, bytearray()]):
        assert travel(Buffers(*parts)) == [bytes(part) for part in parts]


def test_buffers_of_length_zero_in_the_table() -> None:
    # The encoder keeps them in the stream; the format allows them all the same.
    head = struct.pack("<4sIQ3Q", b"dfp1", 3, 0, 0, 1, 0)
    head += zlib.crc32(head).to_bytes(4, "little")
    data = head.ljust(64, b"\0") + b"x" + bytes(63)
    assert [bytes(part) for part in codec._split(memoryview(data))[1]] == [b"", b"x", b""]


def test_p10_more_than_four_gib() -> None:
    size = (4 << 30) + 1
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE: address space, no memory
    source, target = mmap.mmap(-1, size, flags=flags), mmap.mmap(-1, size + 4096, flags=flags)
    array = np.frombuffer(source, dtype=np.uint8)
    array[-1] = 7
    payload = codec.encode(array)
    assert payload.size > size
    position = 0
    for part in payload.parts:
        if len(part) < 4096:
            target[position : position + len(part)] = part
        position += len(part)
    assert position == payload.size
    copy = codec.decode(memoryview(target)[: payload.size], private=True)
    assert copy.shape == (size,)
    copy[-1] = 5
    assert target[payload.size - 1] == 5


# --- frames -----------------------------------------------------------------------------------------------------------


def pandas_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "n": np.arange(5000.0),
            "i": np.arange(5000),
            "s": [f"text {n}" for n in range(5000)],
            "c": pd.Categorical(["a", "b"] * 2500),
            "t": pd.date_range("2020", periods=5000, freq="h", tz="Europe/Berlin"),
            "m": pd.array([1, None] * 2500, dtype="Int64"),
            "o": [{"a": 1}, None] * 2500,
        }
    )


@both_ways
def test_pandas(travel: Any) -> None:
    frame = pandas_frame()
    copy = travel(frame)
    pd.testing.assert_frame_equal(copy, frame)
    copy.loc[0, "n"] = -1.0
    copy["i"] += 1
    assert frame["n"][0] == 0.0
    assert frame["i"][0] == 0
    pd.testing.assert_frame_equal(travel(frame.iloc[10:20]), frame.iloc[10:20])
    assert travel(frame["n"].to_numpy()).flags.writeable


def test_pandas_goes_out_of_band() -> None:
    payload = codec.encode(pandas_frame()[["n", "i", "s"]])
    assert sum(len(part) for part in payload.parts if type(part) is bytes) < 20_000
    small = codec.encode(pandas_frame()[["n", "i", "s"]].iloc[:10])
    assert small.size < 20_000


@both_ways
def test_arrow(travel: Any) -> None:
    table = pa.table(
        {"i": range(10_000), "s": [None, "ab"] * 5000, "d": pa.array(["x", "y"] * 5000).dictionary_encode()}
    )
    assert travel(table).equals(table)
    assert travel(table.schema) == table.schema
    assert travel(table.to_batches()[0]).equals(table.to_batches()[0])
    assert travel(table["s"]).equals(table["s"])


@both_ways
def test_a_slice_of_an_arrow_table_ships_the_slice(travel: Any) -> None:
    table = pa.table({"i": range(100_000), "s": ["some text"] * 100_000, "l": [[1, 2]] * 100_000})
    part = table.slice(1000, 10)
    assert codec.encode(part).size < 10_000
    assert travel(part).equals(part)
    assert travel(part.to_batches()[0]).equals(part.to_batches()[0])
    assert codec.encode(table).size < 1.1 * table.nbytes + 10_000


def polars_frame() -> pl.DataFrame:
    size = 3000
    return pl.DataFrame(
        {
            "i": [1, None, 3] * (size // 3),
            "f": np.arange(float(size)),
            "s": ["a", None, "rather more than twelve bytes"] * (size // 3),
            "cat": pl.Series(["x", "y", "x"] * (size // 3), dtype=pl.Categorical),
            "enum": pl.Series(["x", "y", "x"] * (size // 3), dtype=pl.Enum(["x", "y"])),
            "date": [dt.date(2020, 1, 1)] * size,
            "time": pl.Series([dt.datetime(2020, 1, 1, tzinfo=dt.UTC)] * size, dtype=pl.Datetime("us", "UTC")),
            "delta": [dt.timedelta(1)] * size,
            "list": [[1], [2, 3], None] * (size // 3),
            "struct": [{"a": 1, "b": "x"}] * size,
            "bin": [b"1", None, b""] * (size // 3),
            "bool": [True, None, False] * (size // 3),
            "null": pl.Series([None] * size, dtype=pl.Null),
            "array": pl.Series([[1, 2]] * size, dtype=pl.Array(pl.Int8, 2)),
        }
    )


@both_ways
def test_polars(travel: Any) -> None:
    frame = polars_frame()
    for value in (frame, frame.head(0), frame.head(1), frame.slice(7, 100), pl.DataFrame(), frame.select("s")):
        copy = travel(value)
        assert copy.schema == value.schema
        assert copy.equals(value)
    series = frame["s"]
    assert travel(series).equals(series)
    assert travel(series).name == "s"
    lazy = travel(frame.lazy().filter(pl.col("i") == 1))
    assert lazy.collect().equals(frame.filter(pl.col("i") == 1))


@both_ways
def test_polars_types_that_arrow_does_not_know(travel: Any) -> None:
    frame = pl.DataFrame({"i": pl.Series([1, 2**100, 3], dtype=pl.Int128)})
    assert travel(frame).equals(frame)


def test_polars_goes_out_of_band_and_a_slice_ships_the_slice() -> None:
    frame = pl.DataFrame({"n": np.arange(500_000.0), "s": ["some text that has its own heap"] * 500_000})
    payload = codec.encode(frame)
    assert sum(len(part) for part in payload.parts if type(part) is bytes) < 10_000
    assert codec.encode(frame.slice(1000, 10)).size < 10_000
    assert codec.encode(frame["n"].slice(1000, 10)).size < 10_000


# --- code that fails on the way ---------------------------------------------------------------------------------------


class Bomb:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return explode, (self.error,)


def explode(error: BaseException) -> None:
    raise error


@both_ways
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), ImportError("gone"), MemoryError()], ids=repr)
def test_p3_p7_code_that_fails_while_decoding(error: BaseException, travel: Any) -> None:
    with pytest.raises(DecodeError, match=type(error).__name__) as caught:
        travel([Bomb(error), np.arange(1000)])
    assert type(caught.value.__cause__) is type(error)
