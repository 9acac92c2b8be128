"""The physical floor: the least that has to be done to bring a value to another process, done in one process.

Create the value, encode it out of band, ``pwrite`` the bytes into a memfd, map that, decode, reduce. What may not live
here: any of our own code, or the floor would move with it.
"""

from __future__ import annotations

import mmap
import os
import pickle
from typing import Any

from benchmarks import actions


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


def hand_over(kind: str, megabytes: int) -> float:
    """From nothing to the reduction of a value that went through a segment."""
    value = actions.make_value(kind, megabytes)
    if kind == "numpy":
        return hand_over_array(value)
    stream, buffers = encode(kind, value)
    descriptor, offsets = write_segment(buffers)
    sizes = [buffer.nbytes for buffer in buffers]
    del value, buffers
    whole = map_segment(descriptor)
    parts = [whole[at : at + size] for at, size in zip(offsets, sizes, strict=True)]
    result = actions.reduce_value(kind, decode(kind, stream, parts))
    os.close(descriptor)
    return result


def hand_over_array(array: Any) -> float:
    descriptor, _ = write_segment([memoryview(array).cast("B")])
    result = sum_segment(descriptor)
    os.close(descriptor)
    return result


def sum_segment(descriptor: int) -> float:
    """What reading an array out of a segment takes, once."""
    import numpy as np

    return float(np.frombuffer(map_segment(descriptor)).sum())


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
