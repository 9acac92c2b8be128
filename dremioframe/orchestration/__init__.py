"""Declare a DAG of Python functions and run it: the public names, and the one place to import them from.

What lives here: names. All are loaded when first asked for (PEP 562), so that
``from dremioframe.orchestration import Pipeline, Task, task`` loads no executor, log, scheduler or pickle library, and
the fork server of the workers, which passes through here too, loads nothing at all.
"""

from __future__ import annotations

import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context
    from .dag.trigger_rules import TriggerRule
    from .decorators import task
    from .engine.handle import RunHandle
    from .errors import (
        DefinitionError,
        ExecutorClosedError,
        FailTask,
        MemoryLimitExceededError,
        NestedRunError,
        OrchestrationError,
        PayloadError,
        RemoteError,
        RetryTask,
        RunCancelledError,
        RunFailedError,
        SkipTask,
        TaskCancelled,
        TaskError,
        TaskTimeoutError,
        WorkerLostError,
        WorkerStartError,
    )
    from .executors.inline import InlineExecutor
    from .executors.process import ProcessExecutor
    from .executors.thread import ThreadExecutor
    from .machine.states import RunState, SkipCause, TaskState
    from .pipeline import Pipeline
    from .records import PipelineRun
    from .schedule import ScheduleHandle, schedule_pipeline
    from .task import Task
    from .task_run import AttemptRecord, TaskRun

__all__ = [
    "AttemptRecord",
    "Context",
    "DefinitionError",
    "ExecutorClosedError",
    "FailTask",
    "InlineExecutor",
    "MemoryLimitExceededError",
    "NestedRunError",
    "OrchestrationError",
    "PayloadError",
    "Pipeline",
    "PipelineRun",
    "ProcessExecutor",
    "RemoteError",
    "RetryTask",
    "RunCancelledError",
    "RunFailedError",
    "RunHandle",
    "RunState",
    "ScheduleHandle",
    "SkipCause",
    "SkipTask",
    "Task",
    "TaskCancelled",
    "TaskError",
    "TaskRun",
    "TaskState",
    "TaskTimeoutError",
    "ThreadExecutor",
    "TriggerRule",
    "WorkerLostError",
    "WorkerStartError",
    "schedule_pipeline",
    "task",
]

_HOMES = {
    ".context": ("Context",),
    ".dag.trigger_rules": ("TriggerRule",),
    ".errors": (
        "DefinitionError",
        "ExecutorClosedError",
        "FailTask",
        "MemoryLimitExceededError",
        "NestedRunError",
        "OrchestrationError",
        "PayloadError",
        "RemoteError",
        "RetryTask",
        "RunCancelledError",
        "RunFailedError",
        "SkipTask",
        "TaskCancelled",
        "TaskError",
        "TaskTimeoutError",
        "WorkerLostError",
        "WorkerStartError",
    ),
    ".engine.handle": ("RunHandle",),
    ".executors.inline": ("InlineExecutor",),
    ".executors.process": ("ProcessExecutor",),
    ".executors.thread": ("ThreadExecutor",),
    ".machine.states": ("RunState", "SkipCause", "TaskState"),
    ".pipeline": ("Pipeline",),
    ".records": ("PipelineRun",),
    ".schedule": ("ScheduleHandle", "schedule_pipeline"),
    ".task": ("Task",),
    ".task_run": ("AttemptRecord", "TaskRun"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home, __name__), name)
    globals()[name] = value  # next time it is found without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The type of this module, for the sake of one name: ``task`` is the decorator, and a module is called so too.

    When a submodule is imported for the first time, the import system binds it to its name in the package. Here that
    has no effect, whenever it happens.
    """

    @property
    def task(self) -> object:
        from .decorators import task

        return task

    @task.setter
    def task(self, submodule: object) -> None:
        if not isinstance(submodule, ModuleType):
            raise AttributeError("dremioframe.orchestration.task cannot be replaced")  # noqa: TRY004 - as properties do


sys.modules[__name__].__class__ = _Package
