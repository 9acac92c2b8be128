"""What the attempts of one run produced, and what a running attempt may see of it.

What lives here: the outcomes, their release, and the frozen view an attempt has of its upstreams. What may not:
deciding when a value is released (the machine does), decoding it (its reader does).

An attempt sees what had finished when it was dispatched. The machine numbers the finishing of tasks and notes the count
at each dispatch, so "had finished by then" is one comparison and nothing is copied.
"""

from __future__ import annotations

from ..machine.states import Phase, TaskState
from ..options import meant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ..dag.dag import Dag
    from ..interfaces import Outcome
    from ..machine.run_machine import RunMachine
    from ..payload.failure import Failure
    from ..run_data import RunData


class Results:
    """Implements :class:`~..interfaces.Inputs` over the outcomes of one run."""

    def __init__(self, data: RunData, machine: RunMachine, run_names: Collection[str] = ()) -> None:
        self._run_names = run_names
        self._data = data
        self._dag: Dag = data.dag
        self._machine = machine

    def keep(self, task: int, outcome: Outcome) -> None:
        """Record the outcome of the latest attempt of ``task``."""
        outcomes = self._data.outcomes
        previous = outcomes[task]
        if previous is not None:
            self._data.earlier.setdefault(task, []).append(previous)
        outcomes[task] = outcome

    def release(self, task: int) -> None:
        """Nobody will read this value any more."""
        self._data.released.add(task)
        outcome = self._data.outcomes[task]
        if outcome is not None:
            outcome.release()

    def direct(self, task: int) -> Sequence[tuple[str, Outcome]]:
        names, outcomes, phases = self._dag.names, self._data.outcomes, self._machine.phases
        finish_sequence, dispatched = self._machine.finish_sequence, self._machine.dispatch_sequence[task]
        found = []
        for upstream in self._dag.upstreams[task]:  # as ``_seen_state`` says, without a call for each
            outcome = outcomes[upstream]
            if outcome is not None and phases[upstream] is Phase.SUCCESS and finish_sequence[upstream] <= dispatched:
                found.append((names[upstream], outcome))
        return found

    def outcome(self, task: int, attempt: int, name: str) -> Outcome:
        upstream = self._dag.index.get(name)
        if upstream is None:
            hint = meant(name, self._run_names, self._dag.names)
            raise KeyError(f"the context has no {name!r}: no value of the run and no task has that name{hint}")
        if not self._is_upstream(upstream, task):
            below = self._dag.names[task]
            raise KeyError(f"the context has no {name!r}: that task is not upstream of {below!r}; draw an edge from it")
        state = self._seen_state(task, upstream)
        outcome = self._data.outcomes[upstream]
        if upstream in self._data.released:
            raise KeyError(
                f"the context has no value of {name!r}: it was released (see keep_results) after this task ended"
            )
        if state is not TaskState.SUCCESS or outcome is None:
            raise KeyError(f"the context has no value of {name!r}: {_WHY[state]}")
        return outcome

    def states(self, task: int, attempt: int) -> Sequence[tuple[str, str]]:
        names = self._dag.names
        return [(names[i], self._seen_state(task, i).value) for i in self._dag.ancestors(task)]

    def failures(self, task: int, attempt: int) -> Sequence[tuple[str, int, Failure]]:
        found = []
        for upstream in self._dag.ancestors(task):
            outcome = self._data.outcomes[upstream]
            if outcome is None or outcome.failure is None or self._seen_state(task, upstream) is not TaskState.FAILED:
                continue
            count = 1 + len(self._data.earlier.get(upstream, ()))
            found.append((self._dag.names[upstream], count, outcome.failure))
        return found

    def _seen_state(self, task: int, upstream: int) -> TaskState:
        """State of ``upstream`` as of the dispatch of ``task``'s attempt."""
        finished = self._machine.finish_sequence[upstream]
        if finished and finished <= self._machine.dispatch_sequence[task]:
            return self._machine.task_state(upstream)
        return TaskState.PENDING

    def _is_upstream(self, upstream: int, task: int) -> bool:
        if upstream in self._dag.upstreams[task]:
            return True
        return any(each == upstream for each in self._dag.ancestors(task))


_WHY = {
    TaskState.PENDING: "it had not finished when this attempt was dispatched",
    TaskState.RUNNING: "it had not finished when this attempt was dispatched",
    TaskState.FAILED: "that task failed",
    TaskState.SKIPPED: "that task was skipped",
    TaskState.CANCELLED: "that task was cancelled",
    TaskState.SUCCESS: "it has none",
}
