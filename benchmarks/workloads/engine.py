"""Our engine as every workload meets it: a warm ``ProcessExecutor``, no log, and a run that must have succeeded.

Shared by the workloads; what a pipeline looks like is each one's own.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks import actions
from dremioframe.orchestration import Pipeline, ProcessExecutor, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dremioframe.orchestration import PipelineRun


@contextmanager
def warm_executor(workers: int, *modules: str) -> Iterator[ProcessExecutor]:
    """Our pool with all workers started and ``modules`` imported in each."""
    from loguru import logger

    logger.disable("dremioframe")
    try:
        with ProcessExecutor(workers) as executor:
            run_tasks("warm", (Task(f"wake_{n}", actions.wake, (modules,)) for n in range(4 * workers)), executor)
            yield executor
    finally:
        logger.enable("dremioframe")


def run_tasks(name: str, tasks: Iterable[Task], executor: ProcessExecutor) -> PipelineRun:
    """Run a pipeline of these tasks to its end, and raise what failed in it."""
    pipeline = Pipeline(name)
    for task in tasks:
        pipeline.add_task(task)
    return pipeline.run(executor=executor, raise_on_failure=True)
