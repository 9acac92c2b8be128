"""What workers run for the flights workload: the example's stage functions, one by one and all in one call."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pyarrow as pa

import flights_stages as stages

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

pa.set_cpu_count(1)
REFERENCE = ("weather", "planes", "airports", "airlines")


@cache
def reference() -> tuple[pa.Table, ...]:
    """The small tables: read once by each process is cheaper than sent with each call."""
    return tuple(getattr(stages, f"read_{name}")() for name in REFERENCE)


def output(folder: Path, month: int) -> Path:
    return folder / f"flights-2013-{month:02}.parquet"


def month_file(folder: Path, month: int) -> Path:
    return folder / f"month-{month:02}.arrow"


# ---------------------------------------------------------------------------------------------- ours, a stage at a time


def prepare(month: int, context: Any) -> pa.Table:
    return stages.clean_and_join(context["flights"][month], *(context[name] for name in REFERENCE))


def study(month: int, context: Any) -> pa.Table:
    return stages.add_delay_study(context[f"prepare_{month}"])


def summarise(month: int, context: Any) -> pa.Table:
    return stages.summarise(context[f"study_{month}"])


def write(folder: Path, month: int, context: Any) -> None:
    stages.write(context[f"study_{month}"], output(folder, month))


def publish(months: range, context: Any) -> pa.Table:
    return pa.concat_tables([context[f"summarise_{month}"] for month in months])


# -------------------------------------------------------------------------------------------- theirs, a month at a time


def whole_month(folder: Path, month: int, flights: pa.Table) -> pa.Table:
    """All stages of a month but the reading."""
    studied = stages.add_delay_study(stages.clean_and_join(flights, *reference()))
    stages.write(studied, output(folder, month))
    return stages.summarise(studied)


def mapped_month(folder: Path, month: int) -> pa.Table:
    """All stages of a month that lies in a file."""
    with pa.memory_map(str(month_file(folder, month))) as source:
        return whole_month(folder, month, pa.ipc.open_file(source).read_all())


def save_month(folder: Path, month: int, flights: pa.Table) -> None:
    with pa.OSFile(str(month_file(folder, month)), "wb") as sink, pa.ipc.new_file(sink, flights.schema) as writer:
        writer.write_table(flights)
