"""From a declared pipeline to a coordinator that is ready to run.

What lives here: everything that may be wrong before the first task starts, and the choice of the executor. What may
not: the run itself.

Modules of the run itself are imported when nothing is wrong and the executor has begun to start: its fork server takes
about as long to boot.
"""

from __future__ import annotations

import os

from .. import options
from ..compile import compile_tasks
from ..errors import DefinitionError, ExecutorClosedError, NestedRunError, WorkerStartError
from ..interfaces import Plan
from ..machine.release import KEEP_RESULTS
from ..payload.tokens import is_worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..dag.dag import Dag
    from ..interfaces import Executor
    from ..machine.states import TaskState
    from ..records import PipelineRun
    from ..run_data import RunData
    from ..task import Task
    from .coordinator import Coordinator
    from .interrupts import Interrupts


class RunOptions:
    """What ``run`` and ``start`` take, checked.

    Attributes:
        executor: A name or an instance.
        max_workers: Ceiling of tasks at once, or None.
        timeout_s: Seconds after which the run is cancelled, or None.
        keep_results: ``"all"``, ``"leaves"`` or ``"none"``.
        context: The run's own values.
    """

    __slots__ = ("context", "executor", "keep_results", "max_workers", "timeout_s")

    def __init__(
        self,
        context: Mapping[str, object] | None,
        executor: str | Executor,
        max_workers: int | None,
        timeout: float | None,
        keep_results: str,
    ) -> None:
        self.context = options.run_context(context)
        self.executor = options.executor(executor)
        self.max_workers = options.at_least_one("max_workers", max_workers)
        self.timeout_s = options.run_timeout(timeout)
        if keep_results not in KEEP_RESULTS:
            raise DefinitionError(f"keep_results must be one of {', '.join(KEEP_RESULTS)}, not {keep_results!r}")
        self.keep_results = keep_results


def make_executor(name: str, max_workers: int | None) -> Executor:
    """The executor of that name, for one run."""
    match name:
        case "inline":
            from ..executors.inline import InlineExecutor

            return InlineExecutor()
        case "thread":
            from ..executors.thread import ThreadExecutor

            return ThreadExecutor(max_workers)
        case _:
            from ..executors.process import ProcessExecutor

            executor = ProcessExecutor(max_workers)
            executor.start_early()
            return executor


def _timeouts(tasks: Sequence[Task]) -> tuple[float | None, ...]:
    """The time-outs as they are now: the user may assign others, or nonsense, while the run goes on."""
    return tuple(
        [None if task.timeout is None else options.time_limit(task.name, "timeout", task.timeout) for task in tasks]
    )


def _memory_limits(tasks: Sequence[Task], executor: str | Executor) -> dict[int, int]:
    """The memory limits in bytes, of those tasks that have one.

    Raises:
        DefinitionError: One makes no sense, or the executor cannot enforce it.
    """
    limits: dict[int, int] = {}
    for index, task in enumerate(tasks):
        if task.memory_limit is not None:
            limit = options.memory_limit(task.name, task.memory_limit)
            if limit is not None:
                limits[index] = limit
    if limits and executor != "process" and not getattr(executor, "limits_memory", False):
        names = ", ".join(repr(tasks[index].name) for index in limits)
        given = executor if isinstance(executor, str) else getattr(executor, "name", executor)
        raise DefinitionError(
            f"memory_limit needs worker processes, and executor={given!r} has none; say executor='process', or take it "
            f"from: {names:.2000}"
        )
    return limits


class LiveRun:
    """The latest run as its tasks see it: while it goes on the machine knows, afterwards the states are left.

    Not its results: tasks that are wired know each other, so what they know lives until the garbage collector comes.
    """

    __slots__ = ("_coordinator", "_data", "_index", "_states")

    def __init__(self, data: RunData, coordinator: Coordinator) -> None:
        self._index = data.dag.index
        self._states = data.states
        self._data: RunData | None = data
        self._coordinator: Coordinator | None = coordinator

    @property
    def is_active(self) -> bool:
        return self._coordinator is not None

    def state_of(self, name: str) -> TaskState:
        task, coordinator = self._index[name], self._coordinator
        return self._states[task] if coordinator is None else coordinator.machine.task_state(task)

    def end(self) -> None:
        data, self._data = self._data, None
        if data is not None:
            self._states = data.states
        self._coordinator = None


class Launch:
    """One run, ready to go.

    Attributes:
        run: The record; complete when ``execute`` is over, however it ended.
    """

    def __init__(
        self,
        pipeline_name: str,
        tasks: Sequence[Task],
        run_options: RunOptions,
        interrupts: Interrupts,
    ) -> None:
        """
        Args:
            interrupts: Those of this run; not entered if it has no say over the process's signals.

        Raises:
            DefinitionError: The pipeline cannot run as written.
            NestedRunError: This is a worker process.
        """
        if is_worker():
            raise NestedRunError(
                f"pipeline {pipeline_name!r}: run() was called in a worker process. Either task code called it, or a "
                "module that a worker imports calls it when it is imported: move that call into a function, or under "
                "`if __name__ == '__main__':`"
            )
        dag = compile_tasks(tasks, run_options.context)
        timeouts = _timeouts(tasks)
        memory_limits = _memory_limits(tasks, run_options.executor)
        self._tasks = tasks
        self._owned = isinstance(run_options.executor, str)
        self._executor = (
            make_executor(run_options.executor, run_options.max_workers)
            if isinstance(run_options.executor, str)
            else run_options.executor
        )
        try:
            self._prepare(pipeline_name, dag, timeouts, memory_limits, run_options, interrupts)
        except BaseException:
            if self._owned:
                self._executor.close()
            raise

    def _prepare(
        self,
        pipeline_name: str,
        dag: Dag,
        timeouts: tuple[float | None, ...],
        memory_limits: dict[int, int],
        run_options: RunOptions,
        interrupts: Interrupts,
    ) -> None:
        from datetime import UTC, datetime

        from ..records import PipelineRun
        from ..run_data import RunData
        from .coordinator import Coordinator

        now = datetime.now(UTC)
        run_id = f"{now:%Y%m%dT%H%M%S}-{os.urandom(6).hex()}"
        data = RunData(run_id, pipeline_name, dag, now)
        plan = Plan(
            run_id,
            pipeline_name,
            dag,
            self._tasks,
            timeouts,
            run_options.context,
            run_options.max_workers,
            memory_limits,
        )
        self.coordinator: Coordinator = Coordinator(
            plan,
            self._executor,
            data,
            interrupts,
            keep_results=run_options.keep_results,
            timeout_s=run_options.timeout_s,
        )
        self.run: PipelineRun = PipelineRun(data)
        self._live = LiveRun(data, self.coordinator)

    def execute(self) -> None:
        """Run to the end in the calling thread.

        Raises:
            WorkerStartError, ExecutorClosedError: It could not go on. The error's ``run`` is as far as it came.
        """
        for task in self._tasks:
            task._last_run = self._live  # noqa: SLF001 - the one thing of a run that a task knows
        try:
            self.coordinator.run()
        except (WorkerStartError, ExecutorClosedError) as error:
            if error.run is None and self.run.status != "RUNNING":  # it began, and ended
                error.run = self.run
            raise
        finally:
            self.abandon()

    @property
    def stops_tasks(self) -> bool:
        """Whether its tasks can be stopped, or at least left behind, while they run."""
        return self._executor.name != "inline"

    def abandon(self) -> None:
        """Give up what belongs to this run alone: it is over, or will not begin."""
        self._live.end()
        if self._owned:
            self._executor.close()
