"""Tables and JSON from results. What may not live here: a measurement, a goal's number, or a colour."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from importlib import metadata
from typing import TYPE_CHECKING

from . import memory
from .goals import GOALS
from .series import ratio

if TYPE_CHECKING:
    from pathlib import Path

    from .series import Measured, Results, Series
    from .settings import Settings

PACKAGES = (
    *("dremioframe", "cloudpickle", "loky", "pebble", "mpire", "joblib", "dask", "distributed", "ray", "prefect"),
    *("numpy", "pyarrow", "pandas", "polars", "tpchgen-cli"),
)
NAME_WIDTH = 44


def number(value: float) -> str:
    """Three figures that mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def tables(results: Results) -> str:
    return "\n\n".join(table(measured) for measured in results.values())


def table(measured: Measured) -> str:
    """One workload: under each figure the contestants, with median, spread and ratio."""
    lines = [measured.title]
    for label in measured.labels():
        reference = measured.median(measured.reference, label)
        lines.append(f"  {label:{NAME_WIDTH}}{'median':>10}   {'min to max':<22}{measured.reference} / this")
        lines += [
            row(name, series, label, reference)
            for name, series in measured.contestants.items()
            if label in series.values
        ]
    lines += [
        f"    {name:{NAME_WIDTH}}{series.reason}" for name, series in measured.contestants.items() if series.reason
    ]
    return "\n".join(lines)


def row(name: str, series: Series, label: str, reference: float | None) -> str:
    values, median = series.values[label], series.median(label)
    assert median is not None
    spread = f"{number(min(values))} to {number(max(values))}"
    times = ratio(reference, median)
    return f"    {name:{NAME_WIDTH - 2}}{number(median):>10}   {spread:<22}{f'{times:.2f} x' if times else ''}".rstrip()


def goals(results: Results) -> str:
    """A line for each goal of the workloads that were run: promised, measured, met or missed."""
    lines = [f"{'goal':54}{'promised':30}{'measured':>12}"]
    for goal in (goal for goal in GOALS if goal.workload in results):
        value = goal.measured(results)
        found = "not measured" if value is None else f"{number(value)} {goal.unit}"
        verdict = "" if value is None else ("met" if goal.met(value) else "MISSED")
        lines.append(f"{goal.text:54}{goal.promise():30}{found:>12}  {verdict}".rstrip())
    return "\n".join(lines)


def circumstances(settings: Settings, rounds: int) -> str:
    """What one has to know to read the figures."""
    versions = (f"{name} {found}" for name in PACKAGES if (found := version(name)))
    return (
        f"{settings.workers} workers on {os.cpu_count()} processors, {memory.total_bytes() / 2**30:.0f} GiB, "
        f"Linux {platform.release()}, Python {platform.python_version()}; {rounds} rounds"
        f"{'' if settings.scale == 1 else f'; sizes x {settings.scale:g}, so the goals say little'}\n"
        + ", ".join(versions)
    )


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def write_json(results: Results, settings: Settings, rounds: int, path: Path) -> None:
    """Every value of every turn."""
    goals_met = [
        {**asdict(goal), "measured": value, "met": None if value is None else goal.met(value)}
        for goal in GOALS
        for value in [goal.measured(results)]
    ]
    document = {
        "circumstances": circumstances(settings, rounds),
        "settings": asdict(settings),
        "workloads": {name: asdict(measured) for name, measured in results.items()},
        "goals": goals_met,
    }
    path.write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")
