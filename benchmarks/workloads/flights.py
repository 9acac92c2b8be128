"""Flights ETL: the stage functions of ``examples/``, a year of flights by month; the CPU-heavy stage is plain Python.

The sources that fail by design in the example do not fail here. Nothing is published before its totals are checked.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from . import etl
from .workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.peers.dask_cluster import Pool as DaskPool
    from benchmarks.settings import Settings
    from dremioframe.orchestration import Task

YEAR = 12


class Flights(etl.Etl):
    modules = ("benchmarks.workloads.flights_jobs",)
    heavy = ("study_",)

    def parts(self) -> range:
        return range(1, self.settings.sized(YEAR) + 1)

    def tasks(self, folder: Path) -> list[Task]:
        from dremioframe.orchestration import Task

        import flights_stages as stages
        from . import flights_jobs as jobs

        flights = Task("flights", stages.read_flights)
        reference = [Task(name, getattr(stages, f"read_{name}")) for name in jobs.REFERENCE]
        publish = Task(etl.MERGE, jobs.publish, (self.parts(),))
        tasks = [flights, *reference, publish]
        for month in self.parts():
            prepare = Task(f"prepare_{month}", jobs.prepare, (month,))
            study = Task(f"study_{month}", jobs.study, (month,))
            summarise = Task(f"summarise_{month}", jobs.summarise, (month,))
            write = Task(f"write_{month}", jobs.write, (folder, month))
            for source in (flights, *reference):
                source.set_downstream(prepare)
            prepare.set_downstream(study).set_downstream(summarise).set_downstream(publish)
            study.set_downstream(write)
            tasks += [prepare, study, summarise, write]
        return tasks

    def share(self, folder: Path) -> None:
        import flights_stages as stages
        from . import flights_jobs as jobs

        by_month = stages.read_flights()
        for month in self.parts():
            jobs.save_month(folder, month, by_month[month])

    def job(self) -> Callable[[Path, int], Any]:
        from . import flights_jobs as jobs

        return jobs.mapped_month

    def on_dask(self, pool: DaskPool, folder: Path) -> list[Any]:
        import flights_stages as stages
        from . import flights_jobs as jobs

        by_month = stages.read_flights()
        months = list(self.parts())
        tables = pool.client.scatter([by_month[month] for month in months])
        return pool.values(
            [pool.submit(jobs.whole_month, folder, month, table) for month, table in zip(months, tables, strict=True)]
        )

    def merge(self, results: list[Any]) -> Any:
        import pyarrow as pa

        return pa.concat_tables(results)

    def alone(self, folder: Path) -> tuple[list[Any], float]:
        import flights_stages as stages
        from . import flights_jobs as jobs

        by_month, heavy_s, summaries = stages.read_flights(), 0.0, []
        for month in self.parts():
            joined = stages.clean_and_join(by_month[month], *jobs.reference())
            before = time.perf_counter()
            studied = stages.add_delay_study(joined)
            heavy_s += time.perf_counter() - before
            summaries.append(stages.summarise(studied))
            stages.write(studied, jobs.output(folder, month))
        return summaries, heavy_s

    def check(self, result: Any, folder: Path) -> None:
        import flights_stages as stages
        from . import flights_jobs as jobs

        assert all(jobs.output(folder, month).exists() for month in self.parts())
        assert sorted(set(result["month"].to_pylist())) == list(self.parts())
        if len(self.parts()) == YEAR:
            stages.check_totals(result)


def title(settings: Settings) -> str:
    return f"flights ETL, {settings.sized(YEAR)} months in 2013"


WORKLOADS = (Workload("flights", title, etl.CONTESTANTS, partial(etl.measure, Flights), rounds=0.6),)
