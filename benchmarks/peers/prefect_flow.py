"""Prefect 3: tasks of one flow on its ``ProcessPoolTaskRunner``, with a private server that ends with this process."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any, TypeVar

_home = tempfile.TemporaryDirectory(prefix="bench-prefect-", ignore_cleanup_errors=True)
os.environ.update(
    PREFECT_HOME=_home.name,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE="true",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_LOGGING_LEVEL="CRITICAL",
    PREFECT_LOGGING_TO_API_ENABLED="false",
    PREFECT_RESULTS_PERSIST_BY_DEFAULT="false",
    DO_NOT_TRACK="1",
)

import prefect  # noqa: E402  # it reads its settings when it is imported
from prefect.task_runners import ProcessPoolTaskRunner  # noqa: E402

from .interface import Peer  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Pool(Peer):
    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._tasks: dict[Callable[..., object], Any] = {}

    def within(self, job: Callable[[], T]) -> T:
        runner = ProcessPoolTaskRunner(max_workers=self.workers)
        result: T = prefect.flow(job, name="bench", task_runner=runner)()
        return result

    def submit(self, function: Callable[..., object], *arguments: Any) -> Any:
        task = self._tasks.get(function)
        if task is None:
            task = self._tasks[function] = prefect.task(function)
        return task.submit(*arguments)

    def passed(self, handle: Any) -> Any:
        return handle

    def close(self) -> None:
        _home.cleanup()
