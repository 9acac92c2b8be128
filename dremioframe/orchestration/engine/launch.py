"""From a declared pipeline to a coordinator that is ready to run.

What lives here: everything that may be wrong with the pipeline before the first task starts. What may not: the run
itself, and what is done before this module is loaded (``preparation``).
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from .. import options
from ..compile import compile_tasks
from ..interfaces import Plan
from ..records import PipelineRun
from ..run_data import RunData
from .coordinator import Coordinator
from .interrupts import Interrupts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..interfaces import Executor
    from ..machine.states import TaskState
    from ..task import Task
    from .preparation import RunOptions


def _timeouts(tasks: Sequence[Task]) -> tuple[float | None, ...]:
    """The time-outs as they are now: the user may assign others, or nonsense, while the run goes on."""
    return tuple(
        [None if task.timeout is None else options.time_limit(task.name, "timeout", task.timeout) for task in tasks]
    )


class LiveRun:
    """The latest run as its tasks see it: while it goes on the machine knows, afterwards the record does."""

    __slots__ = ("_coordinator", "_data")

    def __init__(self, data: RunData, coordinator: Coordinator) -> None:
        self._data = data
        self._coordinator: Coordinator | None = coordinator

    @property
    def is_active(self) -> bool:
        return self._coordinator is not None

    def state_of(self, name: str) -> TaskState:
        task = self._data.dag.index[name]
        coordinator = self._coordinator
        return self._data.states[task] if coordinator is None else coordinator.machine.task_state(task)

    def end(self) -> None:
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
        executor: Executor,
        *,
        owned: bool,
        install_signal_handlers: bool,
    ) -> None:
        """
        Args:
            owned: The executor was made for this run and ends with it, unless this raises.

        Raises:
            DefinitionError: The pipeline cannot run as written.
        """
        dag = compile_tasks(tasks, run_options.context)
        run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.urandom(6).hex()}"
        data = RunData(run_id, pipeline_name, dag, datetime.now(UTC))
        plan = Plan(run_id, pipeline_name, dag, tasks, _timeouts(tasks), run_options.context, run_options.max_workers)
        self._owned = owned
        self._executor = executor
        self._interrupts = Interrupts(install=install_signal_handlers)
        self.coordinator = Coordinator(
            plan,
            self._executor,
            data,
            self._interrupts,
            keep_results=run_options.keep_results,
            timeout_s=run_options.timeout_s,
        )
        self.run = PipelineRun(data)
        self._live = LiveRun(data, self.coordinator)
        self._tasks = tasks

    def execute(self) -> None:
        """Run to the end in the calling thread.

        Raises:
            KeyboardInterrupt: Ctrl-C stopped the run.
            WorkerStartError: No worker could be started.
        """
        for task in self._tasks:
            task._last_run = self._live  # noqa: SLF001 - the one thing of a run that a task knows
        try:
            with self._interrupts:
                try:
                    self.coordinator.run()
                finally:
                    self.abandon()
        finally:
            self._interrupts.deliver_again()

    def abandon(self) -> None:
        """Give up what belongs to this run alone: it is over, or will not begin."""
        self._live.end()
        if self._owned:
            self._executor.close()
