"""What a run leaves behind.

What lives here: :class:`PipelineRun`; it decodes what an attempt produced when somebody asks. What may not: what the
record of a task looks like (``task_run``), and anything that happens while a run is going on. A run holds the outcomes
as the executor gave them, so recording a task costs the engine one list store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from threading import get_ident

from . import mermaid
from .dag.trigger_rules import RULES
from .errors import PayloadError, RunCancelledError, RunFailedError
from .interfaces import OutcomeStatus
from .machine.states import RunState, TaskState
from .options import meant
from .payload import references
from .payload.codec import DecodeError, EncodeError
from .task_run import AttemptRecord, Failures, TaskRun, TaskRuns, failed_attempt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from os import PathLike
    from typing import Any

    from .errors import OrchestrationError
    from .interfaces import Outcome
    from .payload.failure import Failure
    from .run_data import RunData

_packings: set[tuple[int, int]] = set()  # thread and run: whose values are being pickled

_ATTEMPT_STATUS = {
    OutcomeStatus.SUCCESS: "SUCCESS",
    OutcomeStatus.FAILED: "FAILED",
    OutcomeStatus.SKIPPED: "SKIPPED",
    OutcomeStatus.RETRY: "RETRY",
    OutcomeStatus.TIMED_OUT: "TIMED_OUT",
    OutcomeStatus.CANCELLED: "CANCELLED",
    OutcomeStatus.LOST: "LOST",
    OutcomeStatus.OUT_OF_MEMORY: "OUT_OF_MEMORY",
}


class PipelineRun(Mapping[str, object]):
    """What a run did: a mapping from task name to return value of each task that succeeded.

    A value is unpickled when it is first read; reading it again gives the same object, also after the worker pool is
    closed. A run can be pickled; it then carries all its values, lambdas and local classes among them by value.

    Attributes:
        run_id: Unique text.
        status: SUCCESS if no task failed, FAILED if one did, CANCELLED if the run was stopped.
        started_at: When it started (aware, UTC).
        duration_s: Seconds from start to end.
        tasks: Record of each task by name, in order of declaration.
        failures: What went wrong, by name of the failed task, in order of declaration. An error is made whenever it
            is read, so that raising one adds nothing to what others read; only the exceptions of tasks that ran in
            this process, the errors' causes, are those that were raised.

    Example::

        run = pipeline.run(executor="process")
        run["transform"]                 # [2, 4, 6]
        run.tasks["transform"].attempts[0].wall_s
        run.raise_for_failure()
    """

    def __init__(self, data: RunData, values: Mapping[str, object] | None = None) -> None:
        self._data = data
        self._values: dict[str, object] = dict(values or {})

    @property
    def run_id(self) -> str:
        return self._data.run_id

    @property
    def pipeline_name(self) -> str:
        return self._data.pipeline_name

    @property
    def status(self) -> RunState:
        return self._data.status

    @property
    def started_at(self) -> datetime:
        return self._data.started_at

    @property
    def duration_s(self) -> float:
        return self._data.duration_s

    def __getitem__(self, name: str) -> object:
        if name in self._values:
            return self._values[name]
        task = self._index_of(name)
        if not self._has_value(task):
            raise KeyError(self._why_no_value(task))
        outcome = self._data.outcomes[task]
        assert outcome is not None
        try:
            value = outcome.load()
        except DecodeError as error:
            raise PayloadError(
                f"the result of task {name!r} cannot be unpickled: {error.reason}", task=name, stage="result_unpickle"
            ) from error
        # setdefault: two threads that read at once get the same object.
        return self._values.setdefault(name, value)

    def __iter__(self) -> Iterator[str]:
        data, success = self._data, TaskState.SUCCESS
        names, states, released = data.dag.names, data.states, data.released
        return (names[task] for task, state in enumerate(states) if state is success and task not in released)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return True  # a run without values is one, too: ``if pipeline.last_run`` asks whether there was any

    def __contains__(self, name: object) -> bool:
        task = self._data.dag.index.get(name) if isinstance(name, str) else None
        return task is not None and self._has_value(task)

    def __repr__(self) -> str:
        data = self._data
        return (
            f"<PipelineRun {data.pipeline_name!r} {data.status}: {len(data.dag.names)} tasks, {data.duration_s:.3f} s>"
        )

    def _has_value(self, task: int) -> bool:
        return self._data.states[task] is TaskState.SUCCESS and task not in self._data.released

    def _index_of(self, name: str) -> int:
        try:
            return self._data.dag.index[name]
        except KeyError:
            raise KeyError(f"the pipeline has no task {name!r}{meant(name, self._data.dag.names)}") from None

    def _why_no_value(self, task: int) -> str:
        name, state = self._data.dag.names[task], self._data.states[task]
        if task in self._data.released:
            return f"the result of task {name!r} was released when its readers had finished: see run(keep_results=...)"
        return f"task {name!r} has no result: it ended {state}; run.explain({name!r}) says why"

    @property
    def tasks(self) -> Mapping[str, TaskRun]:
        return TaskRuns(self.task_run, self._data.dag.names)

    @property
    def failures(self) -> Mapping[str, OrchestrationError]:
        names = self._data.dag.names
        failed = [task for task in self._tasks_in(TaskState.FAILED) if self._attempt_count(task)]

        def error(name: str) -> OrchestrationError:
            made = self._error(self._index_of(name))
            assert made is not None  # what has failed has failed by something
            return made

        return Failures([names[task] for task in failed], error)

    def _tasks_in(self, state: TaskState) -> Iterator[int]:
        return (task for task, each in enumerate(self._data.states) if each is state)

    def state_of(self, name: str) -> TaskState:
        """State of one task; cheaper than ``tasks[name].status``."""
        return self._data.states[self._index_of(name)]

    def task_run(self, name: str) -> TaskRun:
        """Record of one task.

        Raises:
            KeyError: The pipeline has no such task.

        Example::

            run.task_run("load").attempts[-1].wall_s     # the same as run.tasks["load"]...
        """
        data, task = self._data, self._index_of(name)
        attempts = [self._attempt(task, number) for number in range(1, self._attempt_count(task) + 1)]
        return TaskRun(name, data.states[task], attempts, data.skip_causes.get(task))

    def _attempt_count(self, task: int) -> int:
        return len(self._data.earlier.get(task, ())) + (self._data.outcomes[task] is not None)

    def _outcome(self, task: int, number: int) -> Outcome:
        earlier = self._data.earlier.get(task, ())
        outcome = earlier[number - 1] if number <= len(earlier) else self._data.outcomes[task]
        assert outcome is not None
        return outcome

    def _attempt(self, task: int, number: int) -> AttemptRecord:
        outcome = self._outcome(task, number)
        stats, status = outcome.stats, _ATTEMPT_STATUS[outcome.status]
        facts: tuple[Any, ...] = (number, status)
        if stats is not None:
            # Both tuples name the same facts, from here on in the same order.
            started_s = None if stats.started_at_s is None else stats.started_at_s - self._data.started_s
            facts = (number, status, stats.pid, started_s, *stats[2:])
        if outcome.status == OutcomeStatus.SUCCESS:
            return AttemptRecord(*facts)
        return failed_attempt(facts, partial(self._attempt_error, task, number))

    def _error(self, task: int) -> OrchestrationError | None:
        count = self._attempt_count(task)
        return self._attempt_error(task, count) if count else None

    def _attempt_error(self, task: int, number: int) -> OrchestrationError | None:
        failure = self._failure(task, number)
        return None if failure is None else failure.to_error(task=self._data.dag.names[task], attempt=number)

    def _failure(self, task: int, number: int) -> Failure | None:
        outcome = self._outcome(task, number)
        return None if self._ended_as_wanted(task, outcome) else outcome.failure

    def _ended_as_wanted(self, task: int, outcome: Outcome) -> bool:
        """Whether the attempt only did what it was told: it skipped its task, or was stopped with the run.

        The task's state decides. Task code that raises TaskCancelled of its own accord has failed.
        """
        state, status = self._data.states[task], outcome.status
        return (state is TaskState.SKIPPED and status == OutcomeStatus.SKIPPED) or (
            state is TaskState.CANCELLED and status == OutcomeStatus.CANCELLED
        )

    def raise_for_failure(self) -> None:
        """Raise if the run did not succeed.

        Raises:
            RunFailedError: A task failed; holds all errors in order of declaration.
            RunCancelledError: The run was stopped.

        Example::

            try:
                pipeline.run().raise_for_failure()
            except* TaskTimeoutError as slow:
                page_someone(slow.exceptions)
        """
        if self.status is RunState.CANCELLED:
            cancelled = sum(1 for _ in self._tasks_in(TaskState.CANCELLED))
            raise RunCancelledError(
                f"pipeline {self.pipeline_name!r}: the run was stopped because {self._data.stop_cause}; "
                f"{cancelled} tasks had not ended",
                run=self,
            )
        failures = self.failures
        if failures:
            names = ", ".join(failures)
            raise RunFailedError(f"pipeline {self.pipeline_name!r}: failed: {names}", [*failures.values()], run=self)

    def explain(self, name: str) -> str:
        """Why a task ran, waited, was retried or skipped, in words.

        Raises:
            KeyError: The pipeline has no such task.

        Example::

            >>> print(run.explain("load"))
            load: SKIPPED (UPSTREAM_FAILED)
              rule all_success over: extract FAILED
        """
        data, task = self._data, self._index_of(name)
        cause = data.skip_causes.get(task)
        lines = [f"{name}: {data.states[task]}" + (f" ({cause})" if cause else "")]
        upstreams = ", ".join(f"{data.dag.names[i]} {data.states[i]}" for i in data.dag.upstreams[task])
        rule = data.dag.rules[task]
        early = " (in the end; the rule does not wait for that)" * RULES[rule].early
        lines.append(f"  rule {rule} over: {upstreams}{early}" if upstreams else "  has no upstream tasks")
        for number in range(1, self._attempt_count(task) + 1):
            record = self._attempt(task, number)
            took = "" if record.wall_s is None else f" after {record.wall_s:.3f} s"
            failure = self._failure(task, number)
            said = f": {failure.describe(name, number)}" if failure else ""
            lines.append(f"  attempt {number}: {record.status}{took}{said}")
        lines += [f"  {line}" for line in data.stories.get(task, ())]
        if data.notes.get(task):
            lines.append(f"  note: {data.notes[task]}")
        if data.states[task] is TaskState.CANCELLED:
            lines.append(f"  the run was stopped: {data.stop_cause}")
        return "\n".join(lines)

    def visualize(self, path: str | PathLike[str] | None = None) -> str:
        """The graph as Mermaid text, nodes coloured by state; also written to ``path`` if given.

        Raises:
            OSError: The file cannot be written.

        Example::

            run.visualize(Path("etl.mermaid"))
        """
        return mermaid.save(mermaid.render(self._data.dag, self._data.states), path)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._data, _pack(self, _all_values))

    def _salvaged(self) -> object:
        """The run for the pickle of an error, which a value that cannot be pickled must not keep at home."""
        return _Salvaged(self, self._data)


class _Salvaged:
    """Stands for a run in a pickle, and becomes a run without the values that cannot be pickled."""

    __slots__ = ("_data", "_run")

    def __init__(self, run: PipelineRun, data: RunData) -> None:
        self._run = run
        self._data = data

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            return _restore, (self._data, _pack(self._run, _picklable_values))
        except _LeadsBackError:
            return _restore, (self._data, references.pack_for_anybody({}))


class _LeadsBackError(PayloadError):
    """The values of a run contain that run."""


def _pack(run: PipelineRun, values: Callable[[PipelineRun], bytes]) -> bytes:
    """All values as one blob, so that what they share they share afterwards; by value what pickle has no name for.

    A blob of its own knows nothing of what the pickle around it has met, so whether a run leads back to itself is noted
    here.

    Raises:
        PayloadError: A value cannot be read, or not be pickled.
    """
    packing = get_ident(), id(run)
    if packing in _packings:
        raise _LeadsBackError("the run cannot be pickled: its results contain it", stage="result_pickle")
    _packings.add(packing)
    try:
        return values(run)
    finally:
        _packings.discard(packing)


def _all_values(run: PipelineRun) -> bytes:
    values = dict(run)
    try:
        return references.pack_for_anybody(values)
    except EncodeError as error:
        whole = error
    for name, value in values.items():
        try:
            references.pack_for_anybody(value)
        except EncodeError as error:
            raise _unpicklable(f"the result of task {name!r}", f"result{error.path}", error, name) from error
    raise _unpicklable("the results", whole.path, whole) from whole


def _picklable_values(run: PipelineRun) -> bytes:
    try:
        return _all_values(run)
    except PayloadError:
        return references.pack_for_anybody(_picklable(run))


def _picklable(run: PipelineRun) -> dict[str, object]:
    values = {}
    for name in run:
        try:
            references.pack_for_anybody(run[name])
        except (EncodeError, PayloadError):
            continue
        values[name] = run[name]
    return values


def _unpicklable(what: str, path: str, error: EncodeError, task: str | None = None) -> PayloadError:
    text = f"the run cannot be pickled: {what} cannot be: {error.reason} at {path}"
    return PayloadError(text, task=task, stage="result_pickle", path=path)


def _restore(data: RunData, values: bytes) -> PipelineRun:
    return PipelineRun(data, references.load_code(values))
