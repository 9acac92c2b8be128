"""What workers run: plain functions that every engine finds by reference.

What may not live here: an import at the top that costs anything, for it would be part of every engine's start.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ONE_MB = 1_000_000


def nothing() -> None:
    return None


def ignore(number: int) -> None:
    """``nothing``, for interfaces that map over arguments."""


def wake(modules: tuple[str, ...]) -> None:
    """Warm a worker; lasts long enough that its neighbour gets one too."""
    for name in modules:
        __import__(name)
    time.sleep(0.02)


def zero() -> int:
    return 0


def increment(value: int) -> int:
    return value + 1


def kilobyte(seed: int) -> bytes:
    return bytes([seed % 256]) * 1_000


def total_length(*parts: bytes) -> int:
    return sum(len(part) for part in parts)


# -------------------------------------------------------------------------------------------------------- large values


def make_value(kind: str, megabytes: int) -> Any:
    """``megabytes`` million bytes of float64 ones, as array or as four columns."""
    import numpy as np

    if kind == "numpy":
        return np.ones(megabytes * ONE_MB // 8)
    columns = {name: np.ones(megabytes * ONE_MB // 32) for name in "abcd"}
    if kind == "arrow":
        import pyarrow as pa

        return pa.table(columns)
    if kind == "pandas":
        import pandas as pd

        return pd.DataFrame(columns)
    import polars as pl

    return pl.DataFrame(columns)


def reduce_value(kind: str, value: Any) -> float:
    """The sum of everything in it: reads every byte."""
    if kind == "numpy":
        return float(value.sum())
    if kind == "arrow":
        import pyarrow.compute as pc

        return float(sum(pc.sum(column).as_py() for column in value.columns))
    if kind == "pandas":
        return float(value.to_numpy().sum())
    return float(sum(value.sum().row(0)))


def expected_sum(kind: str, megabytes: int) -> float:
    return float(megabytes * ONE_MB // 8 if kind == "numpy" else megabytes * ONE_MB // 32 * 4)


def read_and_look(value: Any) -> tuple[float, int, int]:
    """The sum, and what the machine's memory looks like while this reader holds the value."""
    from benchmarks.memory import available_bytes, shared_bytes

    return reduce_value("numpy", value), available_bytes(), shared_bytes()


# ------------------------------------------------------------------------------------------------------- recorded DAGs


def recorded(cpu_s: float, output_bytes: int, *_upstream: bytes) -> bytes:
    """Burn processor time, not wall time: a worker that gets no processor takes longer, as it would for real."""
    until = time.thread_time() + cpu_s
    while time.thread_time() < until:
        pass
    return bytes(output_bytes)


# --------------------------------------------------------------------------------------------------------------- kills


def note_and_die(path: str) -> None:
    """Write down when, and end this worker with SIGKILL (by number: importing ``signal`` takes milliseconds)."""
    with open(path, "w", encoding="ascii") as note:
        note.write(str(time.monotonic_ns()))
    os.kill(os.getpid(), 9)


def milliseconds_since(path: str) -> float:
    """How long ago that was; CLOCK_MONOTONIC is the machine's, so the clocks of two processes agree."""
    now = time.monotonic_ns()
    with open(path, encoding="ascii") as note:
        return (now - int(note.read())) / 1e6
