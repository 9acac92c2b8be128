"""The charts: one panel a workload, a bar a contestant, the spread as a line. Drawn only with what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .report import number
from .workloads.workload import FLOOR, OURS

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from .series import Measured, Results

PANELS = {
    "independent": "tasks/s",
    "chain": "us/step",
    "hand-over-numpy": "s",
    "hand-over-polars": "s",
    "first-result": "first result, ms",
    "tpch": "s",
}
COLUMNS = 2
LOG_FROM = 30
"""Bars of a logarithmic axis have no true length: it is used only where a linear one would show nothing."""
COLOURS = {OURS: "#0b6e4f", FLOOR: "#c9a227"}
OTHERS = "#9aa5b1"
FOR_EQUAL_FILES = {"svg.hashsalt": "dremioframe", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}


def draw(results: Results, path: Path) -> bool:
    """Whether there was anything to draw, and matplotlib to draw it with."""
    panels = {name: label for name, label in PANELS.items() if name in results and label in results[name].labels()}
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        return False
    if not panels:
        return False
    mpl.use("svg")
    from matplotlib import pyplot as plt

    with plt.rc_context(FOR_EQUAL_FILES):
        rows = -(-len(panels) // COLUMNS)
        figure, grid = plt.subplots(rows, COLUMNS, figsize=(10, 2.4 * rows), squeeze=False, layout="constrained")
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_visible(False)
        for axes, (name, label) in zip(grid.flat, panels.items(), strict=False):
            draw_panel(axes, results[name], label)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
    return True


def draw_panel(axes: Axes, measured: Measured, label: str) -> None:
    series = {name: each.values[label] for name, each in measured.contestants.items() if label in each.values}
    medians = [measured.median(name, label) or 0.0 for name in series]
    spread = [
        [median - min(values) for median, values in zip(medians, series.values(), strict=True)],
        [max(values) - median for median, values in zip(medians, series.values(), strict=True)],
    ]
    bars = axes.barh(
        list(series), medians, xerr=spread, color=[COLOURS.get(name, OTHERS) for name in series], ecolor="#52606d"
    )
    axes.bar_label(bars, [number(median) for median in medians], padding=4)
    scale = "linear" if max(medians) <= LOG_FROM * min(medians) else "log"
    axes.set_xscale(scale)
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.set_title(measured.title, loc="left", fontsize=9, fontweight="bold")
    axes.set_xlabel(
        f"{label} ({'more' if label.endswith('/s') else 'less'} is better{'; logarithmic' * (scale == 'log')})"
    )
    axes.spines[["top", "right"]].set_visible(False)
