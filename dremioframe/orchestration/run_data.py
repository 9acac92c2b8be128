"""The facts of one run, as they come in.

What lives here: where the engine puts what happened. What may not: how it is told (``records``).
"""

from __future__ import annotations

from .machine.states import RunState, TaskState
from .payload.codec import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import Any, NamedTuple

    from .dag.dag import Dag
    from .interfaces import AttemptStats, Outcome
    from .machine.states import SkipCause
    from .payload.failure import Failure
else:
    from .light_typing import NamedTuple


class RunData:
    """The facts of one run, indexed by task; filled by the engine, read by :class:`PipelineRun`.

    Attributes:
        outcomes: The latest outcome of each task, or None.
        earlier: Outcomes of earlier attempts of tasks that had more than one.
        states: State of each task.
        skip_causes: Why a task was skipped.
        notes: What else is to be said of a task's end.
        stories: What happened to a task, in words, for ``explain``.
        released: Tasks whose value is no longer kept.
        started_s: When the run started, on the clock of its executor.
        stop_cause: Why the run was stopped, in words, if it was.
    """

    __slots__ = (
        "dag",
        "duration_s",
        "earlier",
        "notes",
        "outcomes",
        "pipeline_name",
        "released",
        "run_id",
        "skip_causes",
        "started_at",
        "started_s",
        "states",
        "status",
        "stop_cause",
        "stories",
    )

    def __init__(self, run_id: str, pipeline_name: str, dag: Dag, started_at: datetime) -> None:
        self.run_id = run_id
        self.pipeline_name = pipeline_name
        self.dag = dag
        self.started_at = started_at
        self.started_s = 0.0
        self.stop_cause = ""
        self.duration_s = 0.0
        self.status = RunState.RUNNING
        self.outcomes: list[Outcome | None] = [None] * len(dag.names)
        self.earlier: dict[int, list[Outcome]] = {}
        self.states: Sequence[TaskState] = (TaskState.PENDING,) * len(dag.names)
        self.skip_causes: dict[int, SkipCause] = {}
        self.notes: dict[int, str] = {}
        self.stories: dict[int, list[str]] = {}
        self.released: set[int] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: getattr(self, name) for name in self.__slots__}
        state["outcomes"] = [outcome and _plain(outcome) for outcome in self.outcomes]
        state["earlier"] = {task: [_plain(outcome) for outcome in earlier] for task, earlier in self.earlier.items()}
        return RunData, (self.run_id, self.pipeline_name, self.dag, self.started_at), (None, state)


class _PlainOutcome(NamedTuple):
    """An outcome in a pickled run: its value, if any, is with the run."""

    status: int
    stats: AttemptStats | None
    failure: Failure | None
    retryable: bool = False
    retry_delay_s: float | None = None
    abandoned: bool = False

    def load(self) -> object:
        raise DecodeError("the value was not pickled with the run")

    def release(self) -> None:
        """Nothing is held."""


def _plain(outcome: Outcome) -> _PlainOutcome:
    return _PlainOutcome(outcome.status, outcome.stats, outcome.failure)
