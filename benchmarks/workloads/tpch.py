"""TPC-H, scale factor 1, as a partitioned Parquet ETL with Polars; see ``benchmarks.tpch_stages`` for the work itself.

The data come from ``tpchgen-cli`` and are made once. What all parts share is about 80 MB of joined orders.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import etl
from .workload import OURS, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.peers.dask_cluster import Pool as DaskPool
    from benchmarks.settings import Settings
    from dremioframe.orchestration import Task

KNOWN_COUNTS = [1_478_493, 38_854, 2_920_374, 1_478_870]  # of Q1 at scale factor 1, as the benchmark publishes them


def data_folder(settings: Settings) -> Path:
    return settings.data / f"tpch-{settings.scale:g}"


def generate(settings: Settings) -> None:
    """The tables as Parquet, in parts; made apart and moved when complete."""
    from benchmarks.tpch_stages import PARTS, TABLES

    folder = data_folder(settings)
    if folder.exists():
        return
    generator = Path(sys.executable).with_name("tpchgen-cli")
    if not generator.exists():
        raise ModuleNotFoundError("No module named 'tpchgen-cli'", name="tpchgen-cli")
    making = folder.with_name(f"{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    options = [f"--scale-factor={settings.scale:g}", f"--parts={PARTS}", f"--tables={','.join(TABLES)}"]
    making.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([generator, "parquet", *options, f"--output-dir={making}"], check=True, stdout=subprocess.DEVNULL)
    making.rename(folder)


class Tpch(etl.Etl):
    modules = ("benchmarks.workloads.tpch_jobs",)
    heavy = ("read_lines_", "enrich_", "write_", "price_summary_", "shipping_priority_", "nation_revenue_", "part_")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.data = data_folder(settings)

    def parts(self) -> range:
        from benchmarks.tpch_stages import PARTS

        return range(1, PARTS + 1)

    def tasks(self, folder: Path) -> list[Task]:
        from benchmarks import tpch_stages as stages
        from dremioframe.orchestration import Task

        from . import tpch_jobs as jobs

        orders = Task("read_orders", stages.read_orders, (self.data,))
        merge = Task(etl.MERGE, jobs.merge, (self.parts(),))
        tasks = [orders, merge]
        for part in self.parts():
            lines = Task(f"read_lines_{part}", stages.read_lines, (self.data, part))
            enrich = Task(f"enrich_{part}", jobs.enrich, (part,))
            write = Task(f"write_{part}", jobs.write, (folder, part))
            answers = [Task(f"{question}_{part}", jobs.answer, (question, part)) for question in stages.QUESTIONS]
            orders.set_downstream(enrich)
            lines.set_downstream(enrich).set_downstream(write)
            for answer in answers:
                enrich.set_downstream(answer).set_downstream(merge)
            tasks += [lines, enrich, write, *answers]
        return tasks

    def part_tasks(self, folder: Path) -> list[Task]:
        from benchmarks import tpch_stages as stages
        from dremioframe.orchestration import Task

        from . import tpch_jobs as jobs

        slices = self.settings.workers
        orders = [
            Task(f"orders_{number}", stages.read_orders, (self.data, self.parts()[number::slices]))
            for number in range(slices)
        ]
        merge = Task(etl.MERGE, jobs.merge_parts, (self.parts(),))
        tasks = [*orders, merge]
        for number in self.parts():
            part = Task(f"part_{number}", jobs.part_of_orders, (self.data, folder, number, slices))
            for some in orders:
                some.set_downstream(part)
            part.set_downstream(merge)
            tasks.append(part)
        return tasks

    def share(self, folder: Path) -> None:
        from . import tpch_jobs as jobs

        jobs.save_orders(self.data, folder)

    def job(self) -> Callable[[Path, int], Any]:
        from . import tpch_jobs as jobs

        return partial(jobs.whole_part, self.data)

    def on_dask(self, pool: DaskPool, folder: Path) -> list[Any]:
        from benchmarks import tpch_stages as stages

        from . import tpch_jobs as jobs

        orders = pool.submit(stages.read_orders, self.data)
        lines = {part: pool.submit(stages.read_lines, self.data, part) for part in self.parts()}
        return pool.values([pool.submit(jobs.finish, folder, part, lines[part], orders) for part in self.parts()])

    def merge(self, results: list[Any]) -> Any:
        from benchmarks import tpch_stages as stages

        return stages.merge(results)

    def alone(self, folder: Path) -> tuple[list[Any], float]:
        from benchmarks import tpch_stages as stages

        from . import tpch_jobs as jobs

        orders = stages.read_orders(self.data)
        started = time.perf_counter()
        results = [jobs.finish(folder, part, stages.read_lines(self.data, part), orders) for part in self.parts()]
        return results, time.perf_counter() - started

    def check(self, result: Any, folder: Path) -> None:
        import polars as pl

        from . import tpch_jobs as jobs

        lines = pl.scan_parquet(self.data / "lineitem").select(pl.len()).collect().item()
        written = sum(
            pl.scan_parquet(jobs.output(folder, part)).select(pl.len()).collect().item() for part in self.parts()
        )
        assert written == lines
        assert result["nation_revenue"].height == 5
        if self.settings.scale == 1:
            assert result["price_summary"]["count"].to_list() == KNOWN_COUNTS


def title(settings: Settings) -> str:
    return f"TPC-H ETL, scale factor {settings.scale:g}"


CONTESTANTS = (OURS, etl.BY_PART, *etl.CONTESTANTS[1:])

WORKLOADS = (Workload("tpch", title, CONTESTANTS, partial(etl.measure, Tpch), rounds=0.6, prepare=generate),)
