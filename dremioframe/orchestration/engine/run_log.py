"""What a run tells the user's loguru sinks: start and end, retries, failures, skips by failure. Nothing per success.

Handlers are the user's; none is added or removed here. loguru is imported at the first message, which comes after the
first dispatch: workers already compute while it loads.

What lives here: the wording. What may not: decisions.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..errors import OrchestrationError
    from ..records import RunData


class RunLog:
    """Messages of one run; each is bound to the run and, where there is one, to the task."""

    def __init__(self, data: RunData) -> None:
        self._data = data

    def _logger(self, task: str | None = None) -> Any:
        from loguru import logger

        bound = logger.bind(pipeline=self._data.pipeline_name, run_id=self._data.run_id)
        return bound if task is None else bound.bind(task=task)

    def run_started(self, executor: str) -> None:
        names = self._data.dag.names
        self._logger().info("pipeline {!r}: run started, {} tasks, executor {}", self._name, len(names), executor)

    def run_ended(self) -> None:
        data = self._data
        level = "INFO" if data.status == "SUCCESS" else "WARNING"
        self._logger().log(
            level, "pipeline {!r}: run ended {} after {:.3f} s", self._name, data.status, data.duration_s
        )

    def retry(self, task: str, error: OrchestrationError, delay_s: float) -> None:
        self._logger(task).warning("{}; next attempt in {:.2f} s", error, delay_s)

    def failed(self, task: str, error: OrchestrationError | None, note: str) -> None:
        text = "\n".join(filter(None, (str(error or ""), note, getattr(error, "traceback_text", "").rstrip())))
        self._logger(task).error("task {!r} FAILED: {}", task, text)

    def skipped_by_failure(self, task: str) -> None:
        self._logger(task).warning("task {!r} SKIPPED: something before it failed", task)

    def still_running(self, tasks: list[str]) -> None:
        for task in tasks:
            self._logger(task).warning("task {!r}: its thread cannot be stopped and still runs; it is abandoned", task)

    @property
    def _name(self) -> str:
        return self._data.pipeline_name
