"""An ETL job against hand-written versions of the same stage functions, each tuned to beat us.

Ours is a DAG with a task per stage and part, which is what one writes to have a record, a retry and a time-out per
stage; where that hands much more data on than the others do, there is a version of ours with a task per part beside
it, cut as theirs are. The others are written as an expert would for speed alone:

- ``concurrent.futures`` and joblib: what all parts share is made by the coordinator with all its threads, and handed
  over as Arrow files in memory that workers map (joblib's own memory mapping is for NumPy arrays); each part's stages
  run one after the other in one call, so nothing else moves.
- Dask: the same one call per part, and futures or scattered data for what is shared, which is how Dask moves data.
- One process with one thread: what the work costs without any of us.

Pools are warm and have imported what they need; starting them is not measured. Native libraries run with one thread in
all workers. What may not live here: anything of one job.
"""

from __future__ import annotations

import os
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import actions, peers

from .workload import OURS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.peers.dask_cluster import Pool as DaskPool
    from benchmarks.settings import Figures, Settings
    from dremioframe.orchestration import PipelineRun, Task

BY_PART = "ours, a task a part"
ALONE = "one process, one thread"
CONTESTANTS = (OURS, ALONE, "concurrent.futures", "joblib", "dask")
ONE_THREAD = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_NUM_THREADS")
MERGE = "merge"


class Etl(ABC):
    """One job. ``folder`` is where it writes and where what is shared may lie; ``part`` numbers count from 1."""

    modules: tuple[str, ...]
    heavy: tuple[str, ...]
    """The CPU-heavy stages, as the beginnings of our tasks' names."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def parts(self) -> Iterable[int]: ...

    @abstractmethod
    def tasks(self, folder: Path) -> list[Task]:
        """Our version; the task called ``merge`` has the result."""

    def part_tasks(self, folder: Path) -> list[Task]:
        """Ours with one task for all stages of a part, for jobs that have :data:`BY_PART` among their contestants."""
        raise NotImplementedError

    @abstractmethod
    def share(self, folder: Path) -> None:
        """Write what all parts need, for workers to map."""

    @abstractmethod
    def job(self) -> Callable[[Path, int], Any]:
        """All stages of one part, in one call, over what ``share`` wrote."""

    @abstractmethod
    def on_dask(self, pool: DaskPool, folder: Path) -> list[Any]:
        """The results of all parts."""

    @abstractmethod
    def merge(self, results: list[Any]) -> Any: ...

    @abstractmethod
    def alone(self, folder: Path) -> tuple[list[Any], float]:
        """The same in this process; returns the parts' results and the seconds of the CPU-heavy stages."""

    @abstractmethod
    def check(self, result: Any, folder: Path) -> None:
        """Raises AssertionError if the result is wrong."""


def measure(job: type[Etl], contestant: str, settings: Settings) -> Figures:
    etl = job(settings)
    measurers = {
        OURS: measure_ours,
        BY_PART: measure_by_part,
        ALONE: measure_alone,
        "joblib": measure_joblib,
        "dask": measure_dask,
    }
    with tempfile.TemporaryDirectory(prefix="bench-etl-", dir="/dev/shm") as folder:
        return measurers.get(contestant, measure_futures)(etl, Path(folder), settings.workers)


def measure_ours(etl: Etl, folder: Path, workers: int) -> Figures:
    return measure_tasks(etl, etl.tasks, folder, workers)


def measure_by_part(etl: Etl, folder: Path, workers: int) -> Figures:
    return measure_tasks(etl, etl.part_tasks, folder, workers)


def measure_tasks(etl: Etl, tasks: Callable[[Path], list[Task]], folder: Path, workers: int) -> Figures:
    from .engine import run_tasks, warm_executor

    with warm_executor(workers, *etl.modules) as executor:
        started = time.perf_counter()
        run = run_tasks("etl", tasks(folder), executor)
        result = run[MERGE]
        seconds = time.perf_counter() - started
    etl.check(result, folder)
    return {"s": seconds, "CPU-heavy stages, s": heavy_seconds(run, etl.heavy)}


def heavy_seconds(run: PipelineRun, names: tuple[str, ...]) -> float:
    """How long the CPU-heavy stages kept the busiest worker."""
    busy: dict[int | None, float] = {}
    for name, task in run.tasks.items():
        if name.startswith(names):
            attempt = task.attempts[-1]
            busy[attempt.worker_pid] = busy.get(attempt.worker_pid, 0.0) + (attempt.wall_s or 0.0)
    return max(busy.values())


def measure_alone(etl: Etl, folder: Path, _workers: int) -> Figures:
    limit_threads()
    actions.wake(etl.modules)
    started = time.perf_counter()
    results, heavy_s = etl.alone(folder)
    result = etl.merge(results)
    seconds = time.perf_counter() - started
    etl.check(result, folder)
    return {"s": seconds, "CPU-heavy stages, s": heavy_s}


def measure_futures(etl: Etl, folder: Path, workers: int) -> Figures:
    import_then_limit_threads(etl)
    with peers.open_peer("concurrent.futures", workers) as peer:
        peer.warm(*etl.modules)
        job = etl.job()

        def everything() -> Any:
            etl.share(folder)
            return etl.merge(peer.values([peer.submit(job, folder, part) for part in etl.parts()]))

        return timed_and_checked(etl, folder, everything)


def measure_joblib(etl: Etl, folder: Path, workers: int) -> Figures:
    import joblib

    import_then_limit_threads(etl)
    with joblib.Parallel(n_jobs=workers, batch_size=1, pre_dispatch="all") as parallel:
        parallel(joblib.delayed(actions.wake)(etl.modules) for _ in range(4 * workers))
        job = etl.job()

        def everything() -> Any:
            etl.share(folder)
            return etl.merge(parallel(joblib.delayed(job)(folder, part) for part in etl.parts()))

        return timed_and_checked(etl, folder, everything)


def measure_dask(etl: Etl, folder: Path, workers: int) -> Figures:
    from benchmarks.peers.dask_cluster import Pool

    import_then_limit_threads(etl)
    with Pool(workers) as pool:
        pool.warm(*etl.modules)
        return timed_and_checked(etl, folder, lambda: etl.merge(etl.on_dask(pool, folder)))


def timed_and_checked(etl: Etl, folder: Path, everything: Callable[[], Any]) -> Figures:
    started = time.perf_counter()
    result = everything()
    seconds = time.perf_counter() - started
    etl.check(result, folder)
    return {"s": seconds}


def limit_threads() -> None:
    """One thread for native libraries that are imported from now on, here and in processes started from now on."""
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))


def import_then_limit_threads(etl: Etl) -> None:
    """All threads for this process, one for each worker."""
    actions.wake(etl.modules)
    limit_threads()
