"""What each call answers, one story at a time: tell, compare commands, look at the state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from machine_bench import CHAIN, A, B, Bench, C, alone

from dremioframe.orchestration.dag.dag import Dag
from dremioframe.orchestration.dag.retry_policy import LONGEST_DELAY_S, RetryPolicy
from dremioframe.orchestration.dag.trigger_rules import TriggerRule
from dremioframe.orchestration.machine.protocol import (
    AttemptCancelled,
    AttemptFailed,
    AttemptOverdue,
    AttemptOverMemory,
    AttemptSkipped,
    CancelRequested,
    FinishRun,
    FinishTask,
    MachineError,
    RetryDue,
    ScheduleRetry,
    StopAttempt,
    StopReason,
)
from dremioframe.orchestration.machine.run_machine import RunMachine
from dremioframe.orchestration.machine.states import RunState, SkipCause, TaskState

if TYPE_CHECKING:
    from dremioframe.orchestration.machine.protocol import Event


def test_an_empty_run_is_over_at_once() -> None:
    machine = RunMachine(Dag([], []))
    assert [machine.finished, machine.start(), machine.finished] == [False, [FinishRun(RunState.SUCCESS)], True]
    assert (machine.take(5), machine.handle([CancelRequested()]), machine.state) == ([], [], RunState.SUCCESS)


def test_a_run_starts_once() -> None:
    machine = RunMachine(Dag([], []))
    machine.start()
    with pytest.raises(MachineError, match=r"^the run has been started already$"):
        machine.start()


def test_keep_results_is_checked() -> None:
    with pytest.raises(ValueError, match=r"^keep_results must be one of 'all', 'leaves', 'none', not 'some'$"):
        RunMachine(Dag([], []), "some")


def test_a_chain_runs_in_order() -> None:
    bench = Bench(CHAIN)
    for task in (A, B, C):
        assert bench.machine.ready == 1
        assert bench.take() == [(task, 1)]
        assert bench.states[task] == "RUNNING"
        assert bench.succeed((task, 1)) == ([FinishRun(RunState.SUCCESS)] if task == C else [])
    assert bench.states == ["SUCCESS"] * 3
    assert bench.machine.finish_sequence == [1, 2, 3]
    assert bench.machine.dispatch_sequence == [0, 1, 2]
    assert bench.machine.unfinished == 0


def test_take_gives_no_more_than_asked_and_most_urgent_first() -> None:
    bench = Bench([(), (), (), (C,)], priority=[0, 7, 0, 0])
    assert bench.machine.queue.top_priority() == 7
    assert bench.take(0) == []
    assert bench.take(1) == [(B, 1)]
    assert bench.machine.queue.top_priority() == 0
    assert bench.take(1) == [(C, 1)]  # before A: a longer path depends on it
    assert bench.take(9) == [(A, 1)]
    assert bench.machine.queue.top_priority() is None


def test_what_never_started_goes_back_to_the_front_for_free() -> None:
    bench = Bench([(), ()])
    assert bench.take(1) == [(A, 1)]
    assert bench.untake(A, 1) == []
    assert bench.machine.attempt(A) == 0
    assert bench.take(2) == [(A, 1), (B, 1)]
    assert bench.machine.story(A) == ["RUNNING -> READY: attempt 1 never started"]


# -------------------------------------------------------------------------------------------------------------- failure


def test_a_failure_ends_the_task_and_skips_what_is_below() -> None:
    bench = Bench(CHAIN)
    bench.take()
    assert bench.tell(AttemptFailed(A, 1, retryable=True)) == [
        FinishTask(A, TaskState.FAILED, None, "attempt 1 failed, it has no retries"),
        FinishTask(B, TaskState.SKIPPED, SkipCause.UPSTREAM_FAILED, "rule all_success"),
        FinishTask(C, TaskState.SKIPPED, SkipCause.UPSTREAM_FAILED, "rule all_success"),
        FinishRun(RunState.FAILED),
    ]
    assert [bench.machine.skip_cause(task) for task in (A, B, C)] == [None, *[SkipCause.UPSTREAM_FAILED] * 2]
    assert bench.machine.finish_sequence == [1, 2, 3]


def test_a_failed_attempt_is_repeated_after_its_delay() -> None:
    bench = alone(retries=2, delay_s=3.0)
    assert bench.tell(AttemptFailed(A, 1, retryable=True)) == [ScheduleRetry(A, 1, 3.0)]
    assert bench.states == ["PENDING"]
    assert bench.take() == []
    assert bench.tell(RetryDue(A, 1)) == []
    assert bench.take() == [(A, 2)]
    assert bench.tell(AttemptFailed(A, 2, retryable=True)) == [ScheduleRetry(A, 2, 6.0)]
    bench.tell(RetryDue(A, 2))
    assert bench.take() == [(A, 3)]
    assert bench.tell(AttemptFailed(A, 3, retryable=True)) == [
        FinishTask(A, TaskState.FAILED, None, "attempt 3 failed, no retries left"),
        FinishRun(RunState.FAILED),
    ]
    assert bench.machine.story(A) == [
        "RUNNING -> RETRY_WAIT: attempt 1 failed, the next one follows in 3 s",
        "RETRY_WAIT -> READY: the delay after attempt 1 is over",
        "RUNNING -> RETRY_WAIT: attempt 2 failed, the next one follows in 6 s",
        "RETRY_WAIT -> READY: the delay after attempt 2 is over",
        "RUNNING -> FAILED: attempt 3 failed, no retries left",
    ]


def test_an_error_that_is_not_to_be_retried_ends_the_task() -> None:
    assert alone(retries=5).tell(AttemptFailed(A, 1, retryable=False)) == [
        FinishTask(A, TaskState.FAILED, None, "attempt 1 failed, its error is not to be retried"),
        FinishRun(RunState.FAILED),
    ]


@pytest.mark.parametrize(
    ("asked_s", "given_s"),
    [(0.0, 0.0), (7.5, 7.5), (-1.0, 0.0), (float("nan"), 0.0), (float("inf"), LONGEST_DELAY_S)],
)
def test_a_task_may_ask_for_a_delay_of_its_own(asked_s: float, given_s: float) -> None:
    assert alone(retries=1).tell(AttemptFailed(A, 1, retryable=True, delay_s=asked_s)) == [ScheduleRetry(A, 1, given_s)]


def test_jitter_stretches_the_delay() -> None:
    bench = alone(retries=1, delay_s=10.0, jitter=0.5)
    assert bench.tell(AttemptFailed(A, 1, retryable=True, unit_random=0.5)) == [ScheduleRetry(A, 1, 12.5)]


def test_d11_downstreams_wait_for_the_last_attempt() -> None:
    bench = Bench([(), (A,)], rules=[TriggerRule.ALL_SUCCESS, TriggerRule.ONE_FAILED], policies=[RetryPolicy(1)] * 2)
    bench.take()
    bench.tell(AttemptFailed(A, 1, retryable=True), RetryDue(A, 1))
    assert bench.take() == [(A, 2)]
    bench.tell(AttemptFailed(A, 2, retryable=True))
    assert bench.take() == [(B, 1)]


def test_no_second_attempt_beside_one_that_still_runs() -> None:
    bench = alone(retries=3)
    bench.tell(AttemptFailed(A, 1, retryable=True, abandoned=True))
    assert bench.tell(RetryDue(A, 1, previous_alive=True)) == [
        FinishTask(A, TaskState.FAILED, None, "no retry: code of attempt 1 still runs, and attempts never overlap"),
        FinishRun(RunState.FAILED),
    ]


def test_an_abandoned_last_attempt_is_said() -> None:
    (end, _) = alone().tell(AttemptFailed(A, 1, retryable=True, abandoned=True))
    assert isinstance(end, FinishTask)
    assert end.note == "attempt 1 failed, it has no retries; its code may still be running"


def test_a_task_that_skips_itself() -> None:
    bench = Bench([(), (A,)])
    bench.take()
    assert bench.tell(AttemptSkipped(A, 1)) == [
        FinishTask(A, TaskState.SKIPPED, SkipCause.RAISED, "attempt 1 raised SkipTask"),
        FinishTask(B, TaskState.SKIPPED, SkipCause.RULE, "rule all_success"),
        FinishRun(RunState.SUCCESS),
    ]


def test_an_early_rule_starts_once_and_sees_what_had_finished() -> None:
    bench = Bench([(), (), (A, B)], rules=[TriggerRule.ALL_SUCCESS] * 2 + [TriggerRule.ONE_SUCCESS])
    bench.take()
    bench.succeed((B, 1))
    assert bench.take() == [(C, 1)]
    assert bench.machine.dispatch_sequence[C] == bench.machine.finish_sequence[B] == 1
    bench.succeed((A, 1))
    assert bench.machine.finish_sequence[A] > bench.machine.dispatch_sequence[C]
    assert bench.take() == []


# ----------------------------------------------------------------------------------------------------- time-out, cancel


def test_a_time_out_stops_the_attempt_and_its_end_counts_as_failure() -> None:
    bench = alone(retries=1, delay_s=1.0)
    assert bench.tell(AttemptOverdue(A, 1)) == [StopAttempt(A, 1, StopReason.TIMEOUT)]
    assert bench.states == ["RUNNING"]
    assert bench.tell(AttemptOverdue(A, 1)) == []
    assert bench.machine.stale == 1
    assert bench.tell(AttemptFailed(A, 1, retryable=True)) == [ScheduleRetry(A, 1, 1.0)]


def test_an_attempt_over_its_memory_limit_is_stopped_for_that_and_for_nothing_else() -> None:
    bench = alone(retries=1, delay_s=1.0)
    assert bench.tell(AttemptOverMemory(A, 1)) == [StopAttempt(A, 1, StopReason.MEMORY)]
    assert bench.tell(AttemptOverMemory(A, 1), AttemptOverdue(A, 1)) == []
    assert bench.machine.stale == 2
    assert bench.tell(AttemptFailed(A, 1, retryable=True)) == [ScheduleRetry(A, 1, 1.0)]
    assert bench.machine.story(A)[0].endswith("attempt 1 used more memory than its limit")


def test_a_result_that_was_read_before_the_kill_wins() -> None:
    bench = alone()
    bench.tell(AttemptOverdue(A, 1))
    assert bench.succeed((A, 1)) == [FinishRun(RunState.SUCCESS)]
    assert bench.tell(AttemptFailed(A, 1, retryable=True)) == []
    assert (bench.states, bench.machine.stale) == (["SUCCESS"], 1)


def test_cancel_ends_what_waits_and_stops_what_runs() -> None:
    bench = Bench([(), (), (A,), ()], policies=[RetryPolicy(1)] * 4, priority=[3, 2, 1, 0])
    bench.take(2)
    bench.tell(AttemptFailed(B, 1, retryable=True, delay_s=1.0))
    assert bench.tell(CancelRequested()) == [
        StopAttempt(A, 1, StopReason.CANCEL),
        FinishTask(B, TaskState.CANCELLED, None, "the run was stopped before attempt 2"),
        FinishTask(C, TaskState.CANCELLED, None, "the run was stopped before attempt 1"),
        FinishTask(3, TaskState.CANCELLED, None, "the run was stopped before attempt 1"),
    ]
    assert (bench.take(), bench.tell(CancelRequested()), bench.tell(RetryDue(B, 1))) == ([], [], [])
    assert bench.tell(AttemptCancelled(A, 1)) == [
        FinishTask(A, TaskState.CANCELLED, None, "attempt 1 was stopped with the run"),
        FinishRun(RunState.CANCELLED),
    ]


@pytest.mark.parametrize(
    ("event", "state", "run_state"),
    [
        (AttemptFailed(A, 1, retryable=True), "CANCELLED", "CANCELLED"),
        (AttemptCancelled(A, 1), "CANCELLED", "CANCELLED"),
        (AttemptSkipped(A, 1), "SKIPPED", "SUCCESS"),
    ],
)
def test_ends_of_a_cancelled_attempt(event: Event, state: str, run_state: str) -> None:
    bench = alone(retries=3)
    bench.tell(CancelRequested())
    bench.tell(event)
    assert (bench.states, bench.machine.state) == ([state], run_state)


def test_a_success_after_cancel_is_a_success_but_starts_nothing() -> None:
    bench = Bench([(), (A,)])
    bench.take()
    bench.tell(CancelRequested())
    assert bench.succeed((A, 1)) == [FinishRun(RunState.CANCELLED)]
    assert bench.states == ["SUCCESS", "CANCELLED"]


def test_a_time_out_under_cancel_whose_retry_is_cut_short_is_cancelled() -> None:
    bench = alone(retries=3)
    bench.tell(AttemptOverdue(A, 1))
    assert bench.tell(CancelRequested()) == []
    assert bench.tell(AttemptFailed(A, 1, retryable=True)) == [
        FinishTask(A, TaskState.CANCELLED, None, "attempt 1 failed, no retry because the run is being stopped"),
        FinishRun(RunState.CANCELLED),
    ]


def test_what_never_started_is_cancelled_when_it_comes_back_after_cancel() -> None:
    bench = alone()
    bench.tell(CancelRequested())
    assert bench.untake(A, 1) == [
        FinishTask(A, TaskState.CANCELLED, None, "attempt 1 never started, the run is being stopped"),
        FinishRun(RunState.CANCELLED),
    ]
    assert bench.machine.attempt(A) == 0


def test_cancel_after_the_end_changes_nothing() -> None:
    bench = alone()
    bench.succeed((A, 1))
    assert bench.tell(CancelRequested()) == []
    assert (bench.machine.state, bench.machine.cancelled) == (RunState.SUCCESS, False)


def test_cancel_before_the_start() -> None:
    machine = RunMachine(Dag(["a"], [()]))
    assert machine.handle([CancelRequested()]) == [
        FinishTask(A, TaskState.CANCELLED, None, "the run was stopped before attempt 1")
    ]
    assert machine.start() == [FinishRun(RunState.CANCELLED)]
    assert machine.take(1) == []
