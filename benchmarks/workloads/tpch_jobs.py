"""What workers run for the TPC-H workload: the stages with their files, one by one and all in one call."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from benchmarks import tpch_stages as stages

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


def output(folder: Path, part: int) -> Path:
    return folder / f"enriched.{part}.parquet"


def orders_file(folder: Path) -> Path:
    return folder / "orders.arrow"


def save_orders(data: Path, folder: Path) -> None:
    """For workers to map."""
    stages.read_orders(data).write_ipc(orders_file(folder), compression="uncompressed")


@cache
def mapped_orders(path: Path) -> pl.DataFrame:
    """Mapped once by each process."""
    with pa.memory_map(str(path)) as source:
        mapped = pl.from_arrow(pa.ipc.open_file(source).read_all())
    assert isinstance(mapped, pl.DataFrame)
    return mapped


# ---------------------------------------------------------------------------------------------- ours, a stage at a time


def enrich(part: int, context: Any) -> pl.DataFrame:
    return stages.enrich(context[f"read_lines_{part}"], context["read_orders"])


def write(folder: Path, part: int, context: Any) -> int:
    return stages.write(context[f"enrich_{part}"], output(folder, part))


def answer(question: str, part: int, context: Any) -> pl.DataFrame:
    return stages.QUESTIONS[question](context[f"enrich_{part}"])


def merge(parts: range, context: Any) -> stages.Answers:
    return stages.merge({question: context[f"{question}_{part}"] for question in stages.QUESTIONS} for part in parts)


# ----------------------------------------------------------------------------------------------- ours, a part at a time


def part_of_orders(data: Path, folder: Path, part: int, slices: int, context: Any) -> stages.Answers:
    """All stages of a part, over the orders that several tasks have read."""
    orders = pl.concat([context[f"orders_{number}"] for number in range(slices)], rechunk=False)
    return finish(folder, part, stages.read_lines(data, part), orders)


def merge_parts(parts: range, context: Any) -> stages.Answers:
    return stages.merge(context[f"part_{part}"] for part in parts)


# --------------------------------------------------------------------------------------------- theirs, a part at a time


def finish(folder: Path, part: int, lines: pl.DataFrame, orders: pl.DataFrame) -> stages.Answers:
    """All stages of a part but the reading."""
    enriched = stages.enrich(lines, orders)
    stages.write(enriched, output(folder, part))
    return {question: answer(enriched) for question, answer in stages.QUESTIONS.items()}


def whole_part(data: Path, folder: Path, part: int) -> stages.Answers:
    """All stages of a part, over the orders in a file."""
    return finish(folder, part, stages.read_lines(data, part), mapped_orders(orders_file(folder)))
