"""What the first line of every script costs: the promise of a light import is kept by a list, not by good will."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {
    "apscheduler", "asyncio", "cloudpickle", "concurrent", "dataclasses", "inspect", "json", "logging", "loguru",
    "multiprocessing", "numpy", "pandas", "pickle", "polars", "psutil", "pyarrow", "rich", "selectors", "subprocess",
    "tempfile", "uuid",
}  # fmt: skip

SCRIPT = """
import sys
before = set(sys.modules)
from dremioframe.orchestration import Pipeline, Task, task
print(*sorted(set(sys.modules) - before))
"""


def test_the_first_import_loads_nothing_heavy() -> None:
    result = subprocess.run([sys.executable, "-I", "-c", SCRIPT], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert "dremioframe" in loaded
    assert not loaded & HEAVY


def test_every_public_name_can_be_had() -> None:
    code = "import dremioframe.orchestration as o; print(*(f'{n}={getattr(o, n).__name__}' for n in o.__all__))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Pipeline=Pipeline" in result.stdout.split()
