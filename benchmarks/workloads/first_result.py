"""From the start of a program to its first result: whole programs, each as its users would write it.

The function is found in a module beside the program, or is the program's own (``__main__``), which decides whether
workers have to import the program again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.settings import ROOT, steady

from .workload import OURS, Workload

if TYPE_CHECKING:
    from benchmarks.settings import Figures, Settings

SLOW_MS = 10_000
"""What starts so slowly is started once: byte code is not where its time goes."""

FUNCTION = "def answer():\n    return 42\n"
FROM_MODULE = "from answer_module import answer\n"

PROGRAMS = {
    OURS: """
from dremioframe.orchestration import Pipeline, Task
{function}
pipeline = Pipeline("first", max_workers={workers})
pipeline.add_task(Task("answer", answer))
print(pipeline.run(executor="process")["answer"], flush=True)
""",
    "concurrent.futures": """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
{function}
if __name__ == "__main__":
    with ProcessPoolExecutor({workers}, mp_context=multiprocessing.get_context("forkserver")) as pool:
        print(pool.submit(answer).result(), flush=True)
""",
    "loky": """
from loky import get_reusable_executor
{function}
print(get_reusable_executor(max_workers={workers}).submit(answer).result(), flush=True)
""",
    "pebble": """
import multiprocessing
from pebble import ProcessPool
{function}
if __name__ == "__main__":
    with ProcessPool({workers}, context=multiprocessing.get_context("forkserver")) as pool:
        print(pool.schedule(answer).result(), flush=True)
""",
    "mpire": """
from mpire import WorkerPool
{function}
if __name__ == "__main__":
    with WorkerPool({workers}, start_method="forkserver") as pool:
        print(pool.apply(answer), flush=True)
""",
    "dask": """
from dask.distributed import Client
{function}
if __name__ == "__main__":
    with Client(n_workers={workers}, threads_per_worker=1, dashboard_address=None) as client:
        print(client.submit(answer).result(), flush=True)
""",
    "ray": """
import ray
{function}
ray.init(address="local", num_cpus={workers}, include_dashboard=False, log_to_driver=False, logging_level="error")
print(ray.get(ray.remote(answer).remote()), flush=True)
ray.shutdown()
""",
    "prefect": """
from prefect import flow, task
from prefect.task_runners import ProcessPoolTaskRunner
{function}
if __name__ == "__main__":
    @flow(task_runner=ProcessPoolTaskRunner(max_workers={workers}))
    def first():
        return task(answer).submit().result()
    print(first(), flush=True)
""",
}


def measure(function: str, contestant: str, settings: Settings) -> Figures:
    with tempfile.TemporaryDirectory(prefix="bench-first-", ignore_cleanup_errors=True) as folder:
        Path(folder, "answer_module.py").write_text(FUNCTION, encoding="utf-8")
        program = Path(folder, "program.py")
        program.write_text(
            PROGRAMS[contestant].format(function=function, workers=settings.workers).lstrip(), encoding="utf-8"
        )
        if contestant in peers.MODULES:
            _require(contestant)
        first = start_program(program)  # writes byte code, and brings the files into memory
        if first["whole program, ms"] > SLOW_MS:
            return first
        return steady(lambda: start_program(program), seconds=2.0, at_most=10)


def start_program(program: Path) -> Figures:
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(program.parent / "prefect"),
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "DO_NOT_TRACK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, program], cwd=program.parent, env=env, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        first_s = time.perf_counter() - started
        assert process.wait() == 0, f"the program ended with {process.returncode}"
        whole_s = time.perf_counter() - started
    assert line == b"42\n", line
    return {"first result, ms": first_s * 1e3, "whole program, ms": whole_s * 1e3}


def _require(contestant: str) -> None:
    """Raises ModuleNotFoundError here rather than in the program, where it would look like a failure."""
    import importlib.util

    name = {"concurrent.futures": "concurrent", "dask": "distributed"}.get(contestant, contestant)
    if importlib.util.find_spec(name) is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)


WORKLOADS = (
    Workload(
        "first-result",
        lambda _: "program start to first result, function of a module",
        tuple(PROGRAMS),
        partial(measure, FROM_MODULE),
    ),
    Workload(
        "first-result-main",
        lambda _: "program start to first result, function of __main__",
        (OURS, "concurrent.futures", "loky", "pebble"),
        partial(measure, FUNCTION),
    ),
)
