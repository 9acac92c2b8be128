"""The checks themselves: each finds the contradiction it is there for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dremioframe.orchestration.dag.dag import Dag
from dremioframe.orchestration.dag.trigger_rules import K, Verdict
from dremioframe.orchestration.machine.invariants import InvariantError, Watch, check
from dremioframe.orchestration.machine.protocol import (
    AttemptFailed,
    AttemptOverdue,
    AttemptSkipped,
    CancelRequested,
    FinishRun,
    FinishTask,
    ReleaseResult,
    ScheduleRetry,
    StopAttempt,
)
from dremioframe.orchestration.machine.run_machine import RunMachine
from dremioframe.orchestration.machine.states import Phase, RunState, SkipCause, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable

    from dremioframe.orchestration.machine.protocol import Command

A, B, C, D, E = range(5)


def midway() -> RunMachine:
    """A SUCCESS, B RUNNING, C READY, D PENDING below B, E SKIPPED because A asked for it."""
    machine = RunMachine(Dag("abcde", [(), (), (), (B,), ()], takes_context=[False, False, False, True, False]), "none")
    machine.start()
    machine.take(5)
    machine.succeeded([(A, 1)])
    machine.handle([AttemptSkipped(E, 1)])
    machine.untake(C, 1)
    check(machine)
    return machine


def assign(attribute: str, task: int, value: object) -> Callable[[RunMachine], None]:
    def corrupt(machine: RunMachine) -> None:
        column = machine
        for name in attribute.split("."):
            column = getattr(column, name)
        column[task] = value  # type: ignore[index]

    return corrupt


def replace(attribute: str, value: object) -> Callable[[RunMachine], None]:
    return lambda machine: setattr(machine, attribute, value)


@pytest.mark.parametrize(
    ("corrupt", "sentence"),
    [
        (assign("attempts", B, 0), "task 'b': RUNNING with 0 attempts"),
        (assign("attempts", B, 2), "task 'b': RUNNING with 2 attempts"),
        (assign("attempts", C, 1), "task 'c': READY with 1 attempts"),
        (assign("attempts", D, 1), "task 'd': PENDING with 1 attempts"),
        (assign("attempts", E, 0), "task 'e': SKIPPED with 0 attempts"),
        (assign("dispatch_sequence", B, 3), "task 'b': dispatched in the future"),
        (assign("dispatch_sequence", A, 1), "task 'a': ended before it was dispatched"),
        (assign("finish_sequence", A, 0), "task 'a': SUCCESS with finish number 0"),
        (assign("finish_sequence", E, 7), "finish numbers have gaps: [1, 7]"),
        (assign("_skip_causes", A, SkipCause.RULE), "task 'a': SUCCESS with skip cause RULE"),
        (lambda machine: machine.queue.clear(), "the ready queue holds [], which are not the READY tasks"),
        (lambda machine: machine.queue.push(C), "the ready queue holds [2, 2], which are not the READY tasks"),
        (replace("cancelled", value=True), "task 'c': READY while the run is cancelled"),
        (assign("phases", B, Phase.CANCELLED), "task 'b': CANCELLED while the run is not cancelled"),
        (replace("state", RunState.SUCCESS), "the run is SUCCESS with 3 unfinished tasks"),
        (replace("_ended", 1), "4 is not the number of unfinished tasks"),
        (assign("propagation.seen", D, K), "task 'd': has seen 0000 and waits for 1, but noted otherwise"),
        (assign("propagation.unfinished", D, 2), "task 'd': has seen 0000 and waits for 1, but noted otherwise"),
        (assign("propagation.verdicts", D, Verdict.RUN), "task 'd': was judged RUN, against all_success"),
        (assign("propagation.verdicts", C, Verdict.WAIT), "task 'c': was judged WAIT and is READY"),
        (assign("releases.holds", A, 1), "task 'a': its value is held 0 times, but 1 were counted"),
        (assign("releases.holds", B, 1), "task 'b': its value is held 3 times, but 1 were counted"),
    ],
)
def test_each_contradiction_is_found(corrupt: Callable[[RunMachine], None], sentence: str) -> None:
    machine = midway()
    corrupt(machine)
    with pytest.raises(InvariantError) as caught:
        check(machine)
    assert any(line.startswith(sentence) for line in str(caught.value).splitlines()), str(caught.value)


def test_the_wrong_end_of_a_run_is_found() -> None:
    machine = RunMachine(Dag("a", [()]))
    machine.start()
    machine.take(1)
    machine.succeeded([(A, 1)])
    machine.state = RunState.FAILED
    with pytest.raises(InvariantError, match=r"^the run is FAILED, not SUCCESS$"):
        check(machine)


def test_stories_are_told_with_the_violation() -> None:
    machine = midway()
    machine.attempts[E] = 0
    with pytest.raises(InvariantError) as caught:
        check(machine)
    assert str(caught.value).splitlines()[:2] == [
        "task 'e': SKIPPED with 0 attempts",
        "  RUNNING -> SKIPPED: attempt 1 raised SkipTask",
    ]


# ---------------------------------------------------------------------------------------------------------------- watch


def watched() -> tuple[RunMachine, Watch]:
    machine = RunMachine(Dag("ab", [(), (A,)]))
    watch = Watch(machine)
    watch.saw(machine.start())
    machine.take(2)
    watch.saw()
    return machine, watch


def expect(watch: Watch, commands: list[Command], sentence: str) -> None:
    with pytest.raises(InvariantError) as caught:
        watch.saw(commands)
    assert any(line.startswith(sentence) for line in str(caught.value).splitlines()), str(caught.value)


def test_an_end_that_changes_is_found() -> None:
    machine, watch = watched()
    watch.saw(machine.succeeded([(A, 1)]))
    machine.phases[A] = Phase.RUNNING
    machine.finish_sequence[A] = 0
    machine._ended = 0
    machine.propagation.unfinished[B], machine.propagation.seen[B] = 1, 0
    machine.propagation.verdicts[B] = Verdict.WAIT
    machine.phases[B] = Phase.PENDING
    machine.queue.clear()
    check(machine)  # consistent in itself: only time shows it
    expect(watch, [], "task 'a': went from SUCCESS to RUNNING")
    expect(watch, [], "task 'a': ended twice")


def test_an_unannounced_end_is_found() -> None:
    machine, watch = watched()
    machine.handle([AttemptFailed(A, 1, retryable=False)])
    expect(watch, [], "the run ended without FinishRun")
    expect(watch, [], "task 'a': ended without FinishTask")


def test_a_jump_in_attempts_is_found() -> None:
    machine, watch = watched()
    machine.attempts[A] = 3
    with pytest.raises(InvariantError, match="RUNNING with 3 attempts"):
        watch.saw()


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (FinishTask(A, TaskState.FAILED, None, ""), "sent twice, or not so"),
        (FinishTask(A, TaskState.RUNNING, SkipCause.RULE, ""), "wrong cause"),
        (ReleaseResult(B), "sent twice, or there is no result"),
        (ScheduleRetry(A, 1, -1.0), "sent twice, or no delay"),
        (FinishRun(RunState.SUCCESS), "not so"),
    ],
)
def test_a_command_that_is_not_so_is_found(command: Command, sentence: str) -> None:
    _, watch = watched()
    expect(watch, [command], f"{command}: {sentence}")


def test_a_command_sent_twice_is_found() -> None:
    machine, watch = watched()
    commands = machine.handle([AttemptOverdue(A, 1)])
    expect(watch, commands * 2, f"{StopAttempt(A, 1, 0)}: sent twice")


def test_a_command_after_the_end_is_found() -> None:
    machine, watch = watched()
    watch.saw(machine.handle([CancelRequested()]))
    commands = machine.untake(A, 1)
    assert commands[-1] == FinishRun(RunState.CANCELLED)
    expect(watch, [*commands, ReleaseResult(A)], f"{ReleaseResult(A)} after the end of the run")
