"""What the first line of every script costs: the promise of a light import is kept by a list, not by good will."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {
    "apscheduler", "asyncio", "cloudpickle", "concurrent", "dataclasses", "inspect", "json", "logging", "loguru",
    "multiprocessing", "numpy", "pandas", "pickle", "polars", "psutil", "pyarrow", "re", "rich", "selectors",
    "subprocess", "tempfile", "typing", "uuid",
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


ZYGOTE = """
import sys
import dremioframe.orchestration.pool.zygote, dremioframe.orchestration.worker_attempt
print(*sys.modules)
"""


def test_the_fork_server_loads_neither_the_front_end_nor_anything_heavy() -> None:
    """A first result, and the first worker after the fork server's death, wait for it."""
    result = subprocess.run([sys.executable, "-S", "-c", ZYGOTE], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert not loaded & HEAVY
    front_end = {
        f"dremioframe.orchestration.{name}" for name in ("decorators", "task", "options", "pipeline", "engine")
    }
    assert not loaded & front_end


BY_VALUE = """
import sys
from dremioframe.orchestration import Pipeline, Task
def outer(step):
    def count(n):
        return step + count(n - 1) if n else ["cloudpickle" in sys.modules]
    return count
pipeline = Pipeline("p").add_task(Task("t", outer(["x"]), (2,)))
print(pipeline.run(executor="process", max_workers=1)["t"])
"""


def test_a_function_of_the_script_needs_no_cloudpickle_in_its_worker() -> None:
    result = subprocess.run([sys.executable, "-c", BY_VALUE], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["['x',", "'x',", "False]"]


def test_every_public_name_can_be_had() -> None:
    code = "import dremioframe.orchestration as o; print(*(f'{n}={getattr(o, n).__name__}' for n in o.__all__))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Pipeline=Pipeline" in result.stdout.split()
