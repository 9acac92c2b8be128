"""What comes before everything else of a run: its options are checked, and its workers get under way.

The fork server of worker processes takes as long to boot as the rest of the engine takes to be imported. So it is
started first, and this module imports only what that needs.

What lives here: the options of a run, and the choice of its executor. What may not: the run's own preparation
(``launch``), which is loaded from here when the executor is there.
"""

from __future__ import annotations

from .. import options
from ..errors import NestedRunError
from ..payload.tokens import is_worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..interfaces import Executor
    from ..task import Task
    from .launch import Launch


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
        self.keep_results = options.keep_results(keep_results)


def prepare(
    pipeline_name: str, tasks: Sequence[Task], run_options: RunOptions, *, install_signal_handlers: bool
) -> Launch:
    """A run that is ready to go. If this raises, nothing is left of it.

    Raises:
        DefinitionError: The pipeline cannot run as written.
        NestedRunError: This is a worker process.
    """
    _refuse_in_worker(pipeline_name)
    chosen = run_options.executor
    owned = isinstance(chosen, str)
    executor = make_executor(chosen, run_options.max_workers) if isinstance(chosen, str) else chosen
    try:
        from .launch import Launch  # the rest of the engine; not before the executor's processes are on their way

        return Launch(
            pipeline_name, tasks, run_options, executor, owned=owned, install_signal_handlers=install_signal_handlers
        )
    except BaseException:
        if owned:
            executor.close()
        raise


def _refuse_in_worker(pipeline_name: str) -> None:
    if is_worker():
        raise NestedRunError(
            f"pipeline {pipeline_name!r}: run() was called in a worker process. Either task code called it, or a "
            "module that a worker imports calls it when it is imported: move that call into a function, or under "
            "`if __name__ == '__main__':`"
        )


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
