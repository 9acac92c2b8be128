"""What a run tells the user's loguru sinks: start and end, retries, failures, skips by failure. Nothing per success.

Handlers are the user's; none is added or removed here. loguru is imported at the first message, which comes after the
first dispatch: workers already compute while it loads.

What lives here: the wording. What may not: decisions.
"""

from __future__ import annotations

import traceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..errors import OrchestrationError
    from ..records import RunData


class RunLog:
    """Messages of one run; each is bound to the run and, where there is one, to the task."""

    def __init__(self, data: RunData) -> None:
        self._data = data

    def run_started(self, executor: str) -> None:
        data = self._data
        tasks = len(data.dag.names)
        self._say("INFO", "pipeline {!r}: run started, {} tasks, executor {}", data.pipeline_name, tasks, executor)

    def run_ended(self) -> None:
        data = self._data
        level = "INFO" if data.status == "SUCCESS" else "WARNING"
        self._say(level, "pipeline {!r}: run ended {} after {:.3f} s", data.pipeline_name, data.status, data.duration_s)

    def retry(self, task: str, error: OrchestrationError, delay_s: float) -> None:
        self._say("WARNING", "{}; next attempt in {:.2f} s", error, delay_s, task=task)

    def failed(self, task: str, error: OrchestrationError | None, note: str) -> None:
        text = "\n".join(filter(None, (str(error or ""), note, getattr(error, "traceback_text", "").rstrip())))
        self._say("ERROR", "task {!r} FAILED: {}", task, text, task=task)

    def skipped_by_failure(self, task: str) -> None:
        self._say("WARNING", "task {!r} SKIPPED: something before it failed", task, task=task)

    def still_running(self, tasks: list[str]) -> None:
        for task in tasks:
            text = "task {!r}: its thread cannot be stopped and still runs; it is abandoned"
            self._say("WARNING", text, task, task=task)

    def _say(self, level: str, text: str, *values: object, task: str | None = None) -> None:
        from loguru import logger

        bound = logger.bind(pipeline=self._data.pipeline_name, run_id=self._data.run_id)
        if task is not None:
            bound = bound.bind(task=task)
        try:
            bound.opt(depth=1).log(level, text, *values)
        except Exception:  # noqa: BLE001 - a sink that raises (catch=False) must not end the run
            traceback.print_exc()
