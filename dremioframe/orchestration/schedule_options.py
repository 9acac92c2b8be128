"""What a schedule is given for its runs.

What lives here: the checks of ``schedule_pipeline``'s arguments that are not numbers, and the executor that its runs
share. What may not: when a run starts. Loaded on demand only, by ``schedule``.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from . import options as checks
from .compile import compile_tasks
from .engine.launch import RunOptions
from .errors import DefinitionError, NestedRunError
from .payload.tokens import is_worker
from .pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .executors.process import ProcessExecutor


def warm_executor(pipeline: Pipeline, run_options: Mapping[str, Any]) -> ProcessExecutor | None:
    """One for all runs of a schedule, unless they need none or bring their own."""
    if (run_options.get("executor") or pipeline.executor) != "process":
        return None
    from .executors.process import ProcessExecutor

    return ProcessExecutor(run_options.get("max_workers") or pipeline.max_workers)


def check(pipeline: Pipeline, on_run: object, run_options: Mapping[str, Any]) -> None:
    """Tell everything now that would otherwise be told again and again, run by run."""
    if is_worker():
        raise NestedRunError(
            "schedule_pipeline() was called in a worker process. Either task code called it, or a module that a worker "
            "imports calls it when it is imported: move that call into a function, or under "
            "`if __name__ == '__main__':`"
        )
    if not isinstance(pipeline, Pipeline):
        raise DefinitionError(f"schedule_pipeline takes a Pipeline, not {pipeline!r:.200}")
    if on_run is not None and not callable(on_run):
        raise DefinitionError(f"on_run must be a function that takes a run, or None, not {on_run!r:.200}")
    given = inspect.signature(pipeline.start).bind(**run_options)
    given.apply_defaults()
    options = given.arguments
    RunOptions(
        checks.run_context(options["context"]),
        pipeline.executor if options["executor"] is None else options["executor"],
        options["max_workers"],
        options["timeout"],
        options["keep_results"],
    )
    compile_tasks(pipeline.tasks, options["context"])
