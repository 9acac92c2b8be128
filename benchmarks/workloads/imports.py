"""What the first line of a script costs: our three names beside the one library the engine cannot do without."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.settings import steady

from .workload import OURS, Workload

if TYPE_CHECKING:
    from benchmarks.settings import Figures, Settings

LINES = {
    OURS: "from dremioframe.orchestration import Pipeline, Task, task",
    "cloudpickle": "import cloudpickle",
    "concurrent.futures": "from concurrent.futures import ProcessPoolExecutor",
}
PROGRAM = "import time; started = time.perf_counter()\n{line}\nprint((time.perf_counter() - started) * 1e3)"


def measure(contestant: str, settings: Settings) -> Figures:
    def once() -> Figures:
        program = PROGRAM.format(line=LINES[contestant])
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return {"ms": float(result.stdout)}

    once()
    return steady(once, seconds=1.0, at_most=settings.sized(15, at_least=3))


WORKLOADS = (Workload("imports", lambda _: "import of Pipeline, Task, task", tuple(LINES), measure, rounds=2.0),)
