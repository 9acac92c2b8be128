"""A pipeline: tasks under one name, and the verbs to run them.

What lives here: the public face of the engine. What may not: decisions; they are in ``compile`` (is it a DAG?),
``engine`` (how does it run?) and ``records`` (what came of it?).
"""

from __future__ import annotations

import threading

from . import options
from .errors import DefinitionError
from .task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike
    from typing import Any, NoReturn

    from .engine.handle import RunHandle
    from .engine.interrupts import Interrupts
    from .engine.launch import Launch
    from .interfaces import Executor
    from .records import PipelineRun


class Pipeline:
    """Tasks and their dependencies, ready to run.

    Args:
        name: Any text; said in logs and in every attempt's ``context``.
        max_workers: Most tasks at once; None means 1 for threads, the usable CPUs for processes.
        executor: ``"thread"`` (default), ``"process"``, ``"inline"``, or an instance such as
            ``ProcessExecutor(max_workers=8)``, which stays warm from run to run.

    Attributes:
        last_run: The latest run that ended, also after Ctrl-C or an error of ``run()``; None before the first.

    Raises:
        DefinitionError: An argument makes no sense.

    Example::

        pipeline = Pipeline("etl", max_workers=4)
        pipeline.add_task(extract).add_task(transform)
        run = pipeline.run(executor="process")
        print(run["transform"])
    """

    def __init__(self, name: str, max_workers: int | None = None, *, executor: str | Executor = "thread") -> None:
        self.name = _checked_name(name)
        self.max_workers = options.at_least_one("max_workers", max_workers)
        self.executor = options.executor(executor)
        self.last_run: PipelineRun | None = None
        self._tasks: list[Task] = []
        self._running = 0
        self._lock = threading.Lock()

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks, in order of declaration."""
        return tuple(self._tasks)

    def add_task(self, task: Task) -> Pipeline:
        """Add a task; returns the pipeline, so that calls chain.

        Raises:
            DefinitionError: It is no task, or the pipeline is running.
        """
        if not isinstance(task, Task):
            self._refuse(task)
        if self._running:
            raise DefinitionError(
                f"pipeline {self.name!r} is running: task {task.name!r} cannot be added now", task=task.name
            )
        self._tasks.append(task)
        return self

    def _refuse(self, no_task: object) -> NoReturn:
        hint = " (call the decorated function to make a task)" if hasattr(no_task, "fn") else ""
        raise DefinitionError(f"pipeline {self.name!r}: add_task takes a Task, not {no_task!r:.200}{hint}")

    def run(
        self,
        context: Mapping[str, object] | None = None,
        *,
        executor: str | Executor | None = None,
        max_workers: int | None = None,
        timeout: float | None = None,
        raise_on_failure: bool = False,
        keep_results: str = "all",
    ) -> PipelineRun:
        """Run all tasks and wait for the end.

        Args:
            context: Values every task finds in its ``context``, by name.
            executor: Instead of the pipeline's own.
            max_workers: Instead of the pipeline's own; an executor instance's size is a ceiling.
            timeout: Seconds after which the run is stopped and ends CANCELLED.
            raise_on_failure: Raise if a task failed or the run was stopped.
            keep_results: Whose values stay readable in the returned run: those of ``"all"`` tasks, only of
                ``"leaves"`` (tasks without downstreams), or ``"none"``.

        Returns:
            The run: a mapping from task name to return value, with the record of every attempt. A failed task does
            not make ``run`` raise; see ``raise_on_failure`` and ``PipelineRun.raise_for_failure``.

        Raises:
            DefinitionError: The pipeline cannot run as written; nothing was started.
            WorkerStartError: No worker could be started.
            NestedRunError: Called in a worker process, or by what a run on the same executor waits for in this thread.
            KeyboardInterrupt: Ctrl-C; ``last_run`` has what had been done by then.
            RunFailedError, RunCancelledError: With ``raise_on_failure=True``.

        Example::

            run = pipeline.run(context={"date": "2026-01-01"}, executor="process", timeout=600)
        """
        from .engine.interrupts import Interrupts

        with Interrupts() as interrupts:
            launch = self._launch(context, executor, max_workers, timeout, keep_results, interrupts)
            try:
                launch.execute()
            finally:
                self._ended(launch.run)
        if raise_on_failure:
            launch.run.raise_for_failure()
        return launch.run

    def start(
        self,
        context: Mapping[str, object] | None = None,
        *,
        executor: str | Executor | None = None,
        max_workers: int | None = None,
        timeout: float | None = None,
        raise_on_failure: bool = False,
        keep_results: str = "all",
    ) -> RunHandle:
        """Begin a run in the background; takes what :meth:`run` takes.

        Returns:
            A handle with ``cancel()``, ``wait(timeout)``, ``done`` and ``result()``.

        Raises:
            DefinitionError: The pipeline cannot run as written; nothing was started.

        Example::

            handle = pipeline.start(executor="process")
            run = handle.result()
        """
        from .engine.handle import RunHandle
        from .engine.interrupts import Interrupts
        from .pool.undisturbed import Undisturbed

        handle: RunHandle | None = None
        try:
            with Undisturbed():  # the run itself, in another thread, has no say over signals
                launch = self._launch(context, executor, max_workers, timeout, keep_results, Interrupts())
                handle = RunHandle(launch, self._ended, raise_on_failure)
        except BaseException:
            if handle is not None:  # a handler has raised, and nobody will have the handle
                handle.cancel()
            raise
        return handle

    def _launch(
        self,
        context: Mapping[str, object] | None,
        executor: str | Executor | None,
        max_workers: int | None,
        timeout: float | None,
        keep_results: str,
        interrupts: Interrupts,
    ) -> Launch:
        from .engine.launch import Launch, RunOptions

        run_options = RunOptions(
            options.run_context(context),
            self.executor if executor is None else executor,
            self.max_workers if max_workers is None else max_workers,
            timeout,
            keep_results,
        )
        launch = Launch(self.name, tuple(self._tasks), run_options, interrupts)
        with self._lock:
            self._running += 1
        return launch

    def _ended(self, run: PipelineRun) -> None:
        with self._lock:
            self._running -= 1
            before = self.last_run
            if run.status != "RUNNING":  # it began, and ended
                self.last_run = run
        del before  # without the lock: what its values do when they die is the user's code

    def visualize(self, path: str | PathLike[str] | None = None) -> str:
        """The graph as Mermaid text; also written to ``path`` if given.

        Raises:
            DefinitionError: The tasks form no graph that could run.

        Example::

            print(pipeline.visualize())
            pipeline.visualize("pipeline.mermaid")
        """
        from . import mermaid
        from .compile import compile_tasks

        return mermaid.save(mermaid.render(compile_tasks(self._tasks, None)), path)

    def __reduce__(self) -> tuple[Any, ...]:
        # By definition: a pipeline named by a task's code would otherwise drag its runs into every worker.
        # An executor's instance belongs to the process that made it; its name means the same everywhere.
        executor = self.executor if isinstance(self.executor, str) else "thread"
        edges = [_edges_of(task) for task in self._tasks]
        return _restored, (self.name, self.max_workers, self.tasks, edges, executor)

    def __repr__(self) -> str:
        return f"<Pipeline {self.name!r}: {len(self._tasks)} tasks>"


def _checked_name(name: object) -> str:
    if isinstance(name, str):
        return str.__str__(name)  # as a task's: a pickled run would ask its reader for the class of an enum member
    raise DefinitionError(f"the name of a pipeline must be text, not {name!r}")


def _edges_of(task: Task) -> list[str]:
    return [upstream.name for upstream in task.upstream]


def _restored(
    name: str, max_workers: int | None, tasks: tuple[Task, ...], upstreams: list[list[str]], executor: str
) -> Pipeline:
    pipeline = Pipeline(name, max_workers, executor=executor)
    by_name = {task.name: task for task in tasks}
    for task, above in zip(tasks, upstreams, strict=True):
        pipeline.add_task(task)
        for upstream in above:
            task.set_upstream(by_name[upstream])
    return pipeline
