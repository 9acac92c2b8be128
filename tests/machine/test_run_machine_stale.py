"""What the machine says to events that come late, cannot be, or release a value: one story at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from machine_bench import CHAIN, A, B, Bench, C, alone

from dremioframe.orchestration.dag.retry_policy import RetryPolicy
from dremioframe.orchestration.dag.trigger_rules import TriggerRule
from dremioframe.orchestration.machine.protocol import (
    AttemptCancelled,
    AttemptFailed,
    AttemptOverdue,
    AttemptSkipped,
    FinishRun,
    MachineError,
    ReleaseResult,
    RetryDue,
    ScheduleRetry,
)
from dremioframe.orchestration.machine.states import Phase, RunState
from dremioframe.orchestration.machine.stories import LENGTH

if TYPE_CHECKING:
    from dremioframe.orchestration.machine.protocol import Command


# ---------------------------------------------------------------------------------------------------- stale, impossible


def test_what_concerns_an_older_attempt_is_dropped_and_counted() -> None:
    bench = alone(retries=1)
    bench.tell(AttemptFailed(A, 1, retryable=True), RetryDue(A, 1))
    bench.take()
    bench.tell(AttemptFailed(A, 1, retryable=True), AttemptSkipped(A, 1), AttemptCancelled(A, 1), AttemptOverdue(A, 1))
    bench.tell(RetryDue(A, 1))
    bench.succeed((A, 1))
    bench.untake(A, 1)
    assert (bench.machine.stale, bench.machine.phases, bench.machine.attempts) == (7, [Phase.RUNNING], [2])


def test_what_was_never_dispatched_cannot_end() -> None:
    bench = Bench(CHAIN)
    expected = "task 'b' is PENDING at attempt 0: attempt 1 was reported, but it has not been dispatched"
    with pytest.raises(MachineError) as caught:
        bench.succeed((B, 1))
    assert str(caught.value) == expected
    with pytest.raises(MachineError) as caught:
        bench.untake(B, 1)
    assert str(caught.value) == expected
    for event in (AttemptFailed(B, 1, retryable=True), AttemptOverdue(B, 1)):
        with pytest.raises(MachineError) as caught:
            bench.tell(event)
        assert str(caught.value) == expected
    bench.watch.saw()
    assert bench.machine.stale == 0


def test_an_impossible_event_tells_the_story_of_its_task() -> None:
    bench = alone(retries=1)
    bench.tell(AttemptFailed(A, 1, retryable=True, delay_s=2.0), RetryDue(A, 1))
    bench.take()
    with pytest.raises(MachineError) as caught:
        bench.tell(RetryDue(A, 2))
    assert str(caught.value) == (
        "task 'a' is RUNNING at attempt 2: a retry is due after attempt 2, which has not ended; its story:\n"
        "  RUNNING -> RETRY_WAIT: attempt 1 failed, the next one follows in 2 s\n"
        "  RETRY_WAIT -> READY: the delay after attempt 1 is over"
    )


def test_an_attempt_is_not_cancelled_unless_the_run_is() -> None:
    bench = alone()
    with pytest.raises(MachineError, match=r"attempt 1 was reported as cancelled, but the run was not$"):
        bench.tell(AttemptCancelled(A, 1))


def test_commands_before_an_impossible_event_are_not_lost() -> None:
    bench = Bench([(), ()], policies=[RetryPolicy(1)] * 2)
    bench.take()
    with pytest.raises(MachineError):
        bench.machine.handle([AttemptFailed(A, 1, retryable=True, delay_s=1.0), AttemptOverdue(B, 7)])
    assert bench.machine.handle([]) == [ScheduleRetry(A, 1, 1.0)]


def test_a_story_stays_short() -> None:
    bench = alone(retries=100)
    for attempt in range(1, 51):
        bench.tell(AttemptFailed(A, attempt, retryable=True), RetryDue(A, attempt))
        bench.take()
    story = bench.machine.story(A)
    assert len(story) == LENGTH
    assert story[-1] == "RETRY_WAIT -> READY: the delay after attempt 50 is over"


# -------------------------------------------------------------------------------------------------------------- release


def test_nothing_is_released_when_all_is_kept() -> None:
    bench = Bench(CHAIN)
    for task in (A, B, C):
        bench.take()
        assert not any(isinstance(command, ReleaseResult) for command in bench.succeed((task, 1)))


@pytest.mark.parametrize(("keep_results", "at_the_end"), [("leaves", []), ("none", [ReleaseResult(C)])])
def test_a_value_is_released_when_its_consumers_have_finished(keep_results: str, at_the_end: list[Command]) -> None:
    bench = Bench(CHAIN, keep_results)
    bench.take()
    assert bench.succeed((A, 1)) == []
    bench.take()
    assert bench.succeed((B, 1)) == [ReleaseResult(A)]
    bench.take()
    released = bench.succeed((C, 1))
    assert sorted(map(repr, released)) == sorted(
        map(repr, [ReleaseResult(B), *at_the_end, FinishRun(RunState.SUCCESS)])
    )
    assert released[-1] == FinishRun(RunState.SUCCESS)


def test_a_descendant_that_takes_context_keeps_everything_above() -> None:
    bench = Bench(CHAIN, "leaves", takes_context=[False, False, True])
    for task in (A, B):
        bench.take()
        assert bench.succeed((task, 1)) == []
    bench.take()
    assert bench.succeed((C, 1)) == [ReleaseResult(B), ReleaseResult(A), FinishRun(RunState.SUCCESS)]


def test_what_has_no_value_is_not_released() -> None:
    bench = Bench([(), (A,)], "none", rules=[TriggerRule.ALL_SUCCESS, TriggerRule.ALL_DONE])
    bench.take()
    assert bench.tell(AttemptFailed(A, 1, retryable=True))[1:] == []
    bench.take()
    assert bench.succeed((B, 1)) == [ReleaseResult(B), FinishRun(RunState.FAILED)]
