"""What is true of a machine after every call, whatever happened before.

What lives here: checks for tests and for ``testing``; nothing in production calls them. What may not: repairs. Each
check looks at one subject, derives what should be from first principles (never from the counters under test), and
yields a sentence for each violation.

:func:`check` needs nothing but a machine. What only shows over time (an end that changes, a command sent twice) takes
a :class:`Watch`, which keeps a shadow of the machine and sees every command.
"""

from __future__ import annotations

from ..dag.trigger_rules import F, K, S, U, Verdict, judge
from .protocol import FinishRun, FinishTask, ReleaseResult, ScheduleRetry, StopAttempt, StopReason
from .states import ALLOWED_TRANSITIONS, UNDER_WAY, Phase, RunState, SkipCause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from .protocol import Command
    from .run_machine import RunMachine

_ATTEMPTED: Final = (*UNDER_WAY, Phase.RETRY_WAIT, Phase.SUCCESS, Phase.FAILED)
_MAY_BE_ATTEMPTED_AGAIN: Final = (Phase.READY, Phase.RETRY_WAIT)
_GONE_AFTER_CANCEL: Final = (Phase.PENDING, Phase.READY, Phase.RUNNING, Phase.RETRY_WAIT)
_ONLY_AFTER_CANCEL: Final = (Phase.STOPPING_CANCEL, Phase.CANCELLED)
_SKIPPED_BY: Final = {
    SkipCause.UPSTREAM_FAILED: Verdict.SKIP_UPSTREAM_FAILED,
    SkipCause.RULE: Verdict.SKIP_RULE,
    SkipCause.RAISED: Verdict.RUN,
}


class InvariantError(AssertionError):
    """The machine contradicts itself; the text lists every violation and the stories of the tasks concerned."""


def check(machine: RunMachine) -> None:
    """Check one machine between two calls; linear in tasks and edges.

    Raises:
        InvariantError: Something does not hold.

    Example:
        >>> from dremioframe.orchestration.dag.dag import Dag
        >>> from dremioframe.orchestration.machine.run_machine import RunMachine
        >>> machine = RunMachine(Dag(["a"], [()]))
        >>> check(machine)
        >>> machine.attempts[0] = 7
        >>> check(machine)
        Traceback (most recent call last):
            ...
        dremioframe.orchestration.machine.invariants.InvariantError: task 'a': PENDING with 7 attempts
    """
    violations = list(_of_attempts(machine))
    if machine.started:
        violations += _of_queue(machine)
        violations += _of_ends(machine)
        violations += _of_verdicts(machine)
        violations += _of_releases(machine)
        violations += _of_run(machine)
    if violations:
        raise InvariantError("\n".join(violations))


class Watch:
    """Checks a machine over time.

    Args:
        machine: A machine that has not been started.

    Example::

        watch = Watch(machine)
        watch.saw(machine.start())
        watch.saw(machine.handle([CancelRequested()]))
    """

    __slots__ = (
        "_announced",
        "_attempts",
        "_ends",
        "_machine",
        "_over",
        "_phases",
        "_released",
        "_retried",
        "_stopped",
    )

    def __init__(self, machine: RunMachine) -> None:
        self._machine = machine
        self._phases = list(machine.phases)
        self._attempts = list(machine.attempts)
        self._ends = list(machine.finish_sequence)
        self._announced: set[int] = set()
        self._released: set[int] = set()
        self._retried: set[tuple[int, int]] = set()
        self._stopped: set[tuple[int, int, int]] = set()
        self._over = False

    def saw(self, commands: Sequence[Command] = ()) -> None:
        """To be called after every call of the machine, with what it answered.

        Raises:
            InvariantError: Something does not hold now, or does not fit what was before.
        """
        check(self._machine)
        violations = list(self._of_moves())
        for command in commands:
            if self._over:
                violations.append(f"{command} after the end of the run")
            violations += self._of_command(command)
        violations += self._of_silence()
        if violations:
            raise InvariantError("\n".join(violations))
        self._phases[:] = self._machine.phases
        self._attempts[:] = self._machine.attempts
        self._ends[:] = self._machine.finish_sequence

    def _of_moves(self) -> Iterator[str]:
        machine = self._machine
        for task, (before, now) in enumerate(zip(self._phases, machine.phases, strict=True)):
            if before is not now and now not in _REACHABLE[before]:
                yield _said(machine, task, f"went from {before.name} to {now.name}")
            if self._ends[task] and self._ends[task] != machine.finish_sequence[task]:
                yield _said(machine, task, "ended twice")
            if abs(machine.attempts[task] - self._attempts[task]) > 1:
                yield _said(machine, task, f"attempt number jumped from {self._attempts[task]}")
            if machine.attempts[task] < self._attempts[task]:  # untaken: the number will be used, and stopped, again
                attempt = self._attempts[task]
                self._stopped -= {(task, attempt, StopReason.TIMEOUT), (task, attempt, StopReason.MEMORY)}

    def _of_command(self, command: Command) -> Iterator[str]:
        phases = self._machine.phases
        match command:
            case FinishTask(task, state, cause, _):
                if task in self._announced or phases[task].task_state != state or phases[task] is Phase.SUCCESS:
                    yield f"{command}: sent twice, or not so"
                if cause is not self._machine.skip_cause(task):
                    yield f"{command}: wrong cause"
                self._announced.add(task)
            case ReleaseResult(task):
                if task in self._released or phases[task] is not Phase.SUCCESS:
                    yield f"{command}: sent twice, or there is no result"
                self._released.add(task)
            case ScheduleRetry(task, attempt, delay_s):
                if (task, attempt) in self._retried or not delay_s >= 0.0:
                    yield f"{command}: sent twice, or no delay"
                self._retried.add((task, attempt))
            case StopAttempt(task, attempt, reason):
                if (task, attempt, reason) in self._stopped or (task, attempt, StopReason.CANCEL) in self._stopped:
                    yield f"{command}: sent twice"
                self._stopped.add((task, attempt, reason))
            case FinishRun(state):
                if state is not self._machine.state:
                    yield f"{command}: not so"
                self._over = True

    def _of_silence(self) -> Iterator[str]:
        if self._machine.finished and not self._over:
            yield "the run ended without FinishRun"
        for task, phase in enumerate(self._machine.phases):
            if phase.is_terminal and phase is not Phase.SUCCESS and task not in self._announced:
                yield _said(self._machine, task, "ended without FinishTask")


def _of_attempts(machine: RunMachine) -> Iterator[str]:
    for task, (phase, attempts) in enumerate(zip(machine.phases, machine.attempts, strict=True)):
        retries = machine.dag.policies[task].retries
        least = 1 if phase in _ATTEMPTED or machine.skip_cause(task) is SkipCause.RAISED else 0
        most = retries if phase in _MAY_BE_ATTEMPTED_AGAIN else retries + 1
        if phase is Phase.PENDING or (phase is Phase.SKIPPED and not least):
            most = 0
        if not least <= attempts <= most:
            yield _said(machine, task, f"{phase.name} with {attempts} attempts")
        if not 0 <= machine.dispatch_sequence[task] <= machine.dag.n - machine.unfinished:
            yield _said(machine, task, "dispatched in the future")


def _of_queue(machine: RunMachine) -> Iterator[str]:
    queued = list(machine.queue)
    if sorted(queued) != [task for task, phase in enumerate(machine.phases) if phase is Phase.READY]:
        yield f"the ready queue holds {queued}, which are not the READY tasks"
    if len(queued) != machine.ready:
        yield f"the ready queue holds {len(queued)} tasks and says {machine.ready}"
    urgency = [(machine.dag.priority[task], machine.dag.rank[task]) for task in queued]
    if urgency != sorted(urgency, reverse=True):
        yield f"the ready queue is out of order: {queued}"
    if machine.queue.top_priority() != (urgency[0][0] if urgency else None):
        yield f"{machine.queue.top_priority()} is not the highest priority among {queued}"


def _of_ends(machine: RunMachine) -> Iterator[str]:
    for task, (phase, number) in enumerate(zip(machine.phases, machine.finish_sequence, strict=True)):
        if phase.is_terminal != bool(number):
            yield _said(machine, task, f"{phase.name} with finish number {number}")
        if number and number <= machine.dispatch_sequence[task]:
            yield _said(machine, task, "ended before it was dispatched")
        if (machine.skip_cause(task) is not None) != (phase is Phase.SKIPPED):
            yield _said(machine, task, f"{phase.name} with skip cause {machine.skip_cause(task)}")
    numbers = sorted(number for number in machine.finish_sequence if number)
    if numbers != list(range(1, machine.dag.n - machine.unfinished + 1)):
        yield f"finish numbers have gaps: {numbers}"


def _of_verdicts(machine: RunMachine) -> Iterator[str]:
    if machine.cancelled:
        return  # verdicts are no longer sought
    propagation, dag = machine.propagation, machine.dag
    for task, above in enumerate(dag.upstreams):
        seen = 0
        for upstream in above:
            seen |= _outcome(machine, upstream)
        unfinished = sum(not machine.phases[upstream].is_terminal for upstream in above)
        if (propagation.seen[task], propagation.unfinished[task]) != (seen, unfinished):
            yield _said(machine, task, f"has seen {seen:04b} and waits for {unfinished}, but noted otherwise")
        verdict = propagation.verdicts[task]
        if verdict is not judge(dag.rules[task], seen, unfinished):  # also of early verdicts: they must stay right
            yield _said(machine, task, f"was judged {verdict.name}, against {dag.rules[task]}")
        if verdict is not _verdict_behind(machine, task):
            yield _said(machine, task, f"was judged {verdict.name} and is {machine.phases[task].name}")


def _verdict_behind(machine: RunMachine, task: int) -> Verdict:
    if machine.phases[task] is Phase.PENDING:
        return Verdict.WAIT
    cause = machine.skip_cause(task)
    return Verdict.RUN if cause is None else _SKIPPED_BY[cause]


def _outcome(machine: RunMachine, task: int) -> int:
    match machine.phases[task]:
        case Phase.SUCCESS:
            return S
        case Phase.FAILED:
            return F
        case Phase.SKIPPED:
            return U if machine.skip_cause(task) is SkipCause.UPSTREAM_FAILED else K
        case _:
            return 0


def _of_releases(machine: RunMachine) -> Iterator[str]:
    tracker, dag = machine.releases, machine.dag
    if tracker is None:
        return
    attentive = [False] * dag.n
    for task in reversed(dag.order):
        below = dag.downstreams[task]
        is_unfinished = not machine.phases[task].is_terminal
        attentive[task] = (is_unfinished and dag.takes_context[task]) or any(attentive[lower] for lower in below)
        holds = is_unfinished + sum(not machine.phases[lower].is_terminal for lower in below)
        holds += sum(attentive[lower] for lower in below) + (tracker.keeps_leaves and not below)
        if tracker.holds[task] != holds:
            yield _said(machine, task, f"its value is held {holds} times, but {tracker.holds[task]} were counted")


def _of_run(machine: RunMachine) -> Iterator[str]:
    phases = machine.phases
    if machine.unfinished != sum(not phase.is_terminal for phase in phases):
        yield f"{machine.unfinished} is not the number of unfinished tasks"
    if machine.finished != (not machine.unfinished):
        yield f"the run is {machine.state} with {machine.unfinished} unfinished tasks"
    forbidden = _GONE_AFTER_CANCEL if machine.cancelled else _ONLY_AFTER_CANCEL
    for task, phase in enumerate(phases):
        if phase in forbidden:
            yield _said(machine, task, f"{phase.name} while the run is {'' if machine.cancelled else 'not '}cancelled")
    if machine.finished:
        worst = (RunState.CANCELLED, Phase.CANCELLED), (RunState.FAILED, Phase.FAILED)
        expected = next((state for state, phase in worst if phase in phases), RunState.SUCCESS)
        if machine.state is not expected:
            yield f"the run is {machine.state}, not {expected}"


def _said(machine: RunMachine, task: int, what: str) -> str:
    story = "".join(f"\n  {line}" for line in machine.story(task))
    return f"task {machine.dag.names[task]!r}: {what}{story}"


def _reachable() -> dict[Phase, frozenset[Phase]]:
    """Which phases may be seen after which, however many transitions one call made in between."""
    reachable: dict[Phase, frozenset[Phase]] = {}
    for start in Phase:
        found = [start]
        for phase in found:  # grows while it is walked
            found += [end for begin, end in ALLOWED_TRANSITIONS if begin is phase and end not in found]
        reachable[start] = frozenset(found[1:])
    return reachable


_REACHABLE: Final = _reachable()
