"""What a run tells the user's loguru sinks: start and end, retries, failures, skips by failure. Nothing per success.

Handlers are the user's; none is added or removed here. If the program has not imported loguru, no handler is the
user's: then loguru's own is stood in for (``plain_sink``), or loguru is imported at the first message. That comes after
the first dispatch: workers already compute while it loads.

What lives here: the wording. What may not: decisions.
"""

from __future__ import annotations

import io
import sys
import threading

from .. import failpoints
from . import plain_sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from ..run_data import RunData


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
        why = f" ({data.stop_cause})" if data.stop_cause else ""
        text = "pipeline {!r}: run ended {}{} after {:.3f} s"
        self._say(level, text, data.pipeline_name, data.status, why, data.duration_s)

    def stopping(self, why: str) -> None:
        text = "pipeline {!r}: {}; nothing new starts, running tasks get their grace period"
        self._say("WARNING", text, self._data.pipeline_name, why)

    def retry(self, task: str, error: str, delay_s: float) -> None:
        self._say("WARNING", "{}; next attempt in {:.2f} s", error, delay_s, task=task)

    def failed(self, task: str, error: str, note: str, where: str) -> None:
        from ..payload.traceback_text import without_engine

        text = f"{error}; {note}\n{without_engine(where)}".rstrip("\n; ")
        self._say("ERROR", "task {!r} FAILED: {}", task, text, task=task)

    def skipped_by_failure(self, task: str, culprit: str) -> None:
        self._say("WARNING", "task {!r} SKIPPED: upstream {}", task, culprit, task=task)

    def skipped_itself(self, task: str, reason: str) -> None:
        self._say("INFO", "task {!r} SKIPPED by itself: {}", task, reason, task=task)

    def warning(self, task: str | None, text: str) -> None:
        self._say("WARNING", "{}", text, task=task)

    def _say(self, level: str, text: str, *values: object, task: str | None = None) -> None:
        try:
            if plain_sink.suffices():
                plain_sink.write(level, text.format(*values), sys._getframe(1))  # noqa: SLF001 - as loguru does
            else:
                self._tell_loguru(level, text, values, task)
        except Exception:
            if failpoints.armed and failpoints.hit("run_log.sink"):
                raise
            complain()  # a sink that raises (catch=False) must not end the run

    def _tell_loguru(self, level: str, text: str, values: tuple[object, ...], task: str | None) -> None:
        logger = _logger()
        bound = logger.bind(pipeline=self._data.pipeline_name, run_id=self._data.run_id)
        if task is not None:
            bound = bound.bind(task=task)
        bound.opt(depth=2).log(level, text, *values)


def complain() -> None:
    """Show what a sink has raised, where there is anybody to be shown it."""
    import traceback

    try:
        traceback.print_exc()
    except (OSError, ValueError):  # standard error is full, closed or gone: nobody can be told anything
        return


_import_lock = threading.Lock()


def _logger() -> Any:
    """The user's loguru logger; imported now if the user has not done so.

    The sink that loguru makes for itself when it is imported writes to what ``sys.stderr`` is at that moment. Our
    moment is arbitrary (a captured stream that is closed soon after), so the sink gets the stream of each moment.
    """
    with _import_lock:
        if "loguru" not in sys.modules:
            stderr = sys.stderr
            sys.stderr = current = _CurrentStderr(stderr)
            try:
                import loguru  # noqa: F401 - so that its sink is made now
            finally:
                sys.stderr = stderr
                current.fixed = None
        from loguru import logger  # waits if another thread of the user's imports it right now

        return logger


class _CurrentStderr(io.TextIOBase):
    """Whatever ``sys.stderr`` is when something is written.

    Attributes:
        fixed: Written to instead, while this object itself is ``sys.stderr``.
    """

    def __init__(self, fixed: TextIO | None) -> None:
        self.fixed = fixed

    def write(self, text: str) -> int:
        stream = self.fixed or sys.stderr
        return len(text) if stream is None else stream.write(text)

    def flush(self) -> None:
        stream = self.fixed or sys.stderr
        if stream is not None:
            stream.flush()

    def isatty(self) -> bool:
        stream = self.fixed or sys.stderr
        return stream is not None and stream.isatty()
