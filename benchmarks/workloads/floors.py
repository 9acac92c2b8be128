"""The physical floor: the least that has to be done to bring a value to another process, done in one process.

Create the value, encode it out of band, ``pwrite`` the bytes into a memfd, map that, decode, reduce. Nothing is given
back to the kernel before the clock has stopped, as engines do that after they have answered. What may not live here:
any of our own code, or the floor would move with it.
"""

from __future__ import annotations

import mmap
import os
import pickle
import time
from typing import Any

from benchmarks import actions


def hand_over_seconds(kind: str, megabytes: int) -> float:
    """From nothing to the reduction of a value that went through a segment."""
    started = time.perf_counter()
    value = actions.make_value(kind, megabytes)
    stream, buffers = encode(kind, value)
    descriptor, offsets = write_segment(buffers)
    whole = map_segment(descriptor)
    parts = [whole[at : at + buffer.nbytes] for at, buffer in zip(offsets, buffers, strict=True)]
    result = actions.reduce_value(kind, decode(kind, stream, parts))
    seconds = time.perf_counter() - started
    os.close(descriptor)
    assert result == actions.expected_sum(kind, megabytes)
    return seconds


def sum_segment(descriptor: int) -> float:
    """What reading an array out of a segment takes, once."""
    import numpy as np

    return float(np.frombuffer(map_segment(descriptor)).sum())


def write_segment(buffers: list[memoryview]) -> tuple[int, list[int]]:
    """A memfd with these bytes one after the other, on 64-byte boundaries; returns the offsets too."""
    descriptor = os.memfd_create("floor", os.MFD_CLOEXEC)
    offsets, at = [], 0
    for buffer in buffers:
        offsets.append(at)
        done = 0
        while done < buffer.nbytes:
            done += os.pwrite(descriptor, buffer[done:], at + done)
        at += -(-buffer.nbytes // 64) * 64
    return descriptor, offsets


def map_segment(descriptor: int) -> memoryview:
    """A private, writable mapping of all of it, as a reader gets it."""
    size = os.fstat(descriptor).st_size
    return memoryview(mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE))


def encode(kind: str, value: Any) -> tuple[bytes, list[memoryview]]:
    """Pickle protocol 5, buffers apart. A Polars frame goes as the Arrow table it is: its own pickle copies."""
    if kind == "polars":
        value = value.to_arrow()
    buffers: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return stream, [buffer.raw() for buffer in buffers]


def decode(kind: str, stream: bytes, parts: list[memoryview]) -> Any:
    value = pickle.loads(stream, buffers=parts)
    if kind == "polars":
        import polars as pl

        return pl.from_arrow(value)
    return value
