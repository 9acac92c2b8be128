"""Retries, skips, failures, time-outs and what is told of them, whichever executor runs the tasks."""

from __future__ import annotations

import time

import pytest

from dremioframe.orchestration import (
    DefinitionError,
    FailTask,
    NestedRunError,
    Pipeline,
    RetryTask,
    RunCancelledError,
    RunFailedError,
    SkipTask,
    Task,
    TaskError,
    TaskTimeoutError,
    task,
)


def pipeline_of(*tasks, **options):
    pipeline = Pipeline("p", **options)
    for each in tasks:
        pipeline.add_task(each)
    return pipeline


def fail_until(attempt, error=ValueError):
    def action(context):
        if context.attempt < attempt:
            raise error(f"attempt {context.attempt}")
        return context.attempt

    return action


def test_retries_until_success(executor):
    run = pipeline_of(Task("t", fail_until(3), retries=3, retry_delay=0.001)).run(executor=executor)
    assert run["t"] == 3
    record = run.tasks["t"]
    assert [attempt.status for attempt in record.attempts] == ["FAILED", "FAILED", "SUCCESS"]
    assert [attempt.number for attempt in record.attempts] == [1, 2, 3]
    assert record.error is None
    assert "attempt 2" in run.explain("t")


def test_retries_run_out(executor):
    run = pipeline_of(Task("t", fail_until(9), retries=1, retry_delay=0.001)).run(executor=executor)
    error = run.failures["t"]
    assert isinstance(error, TaskError)
    assert isinstance(error.__cause__, ValueError)
    assert error.__cause__.args == ("attempt 2",)
    assert (error.task, error.attempt) == ("t", 2)
    assert "raise error" in error.traceback_text


@pytest.mark.parametrize(
    ("retry_on", "attempts"),
    [
        (KeyError, 1),
        ((KeyError, ValueError), 3),
        (lambda error: "attempt" in str(error), 3),
        (lambda error: error.no_such_attribute, 1),
    ],
)
def test_retry_on(executor, retry_on, attempts):
    tried = Task("t", fail_until(3), retries=5, retry_delay=0.001, retry_on=retry_on)
    run = pipeline_of(tried).run(executor=executor)
    assert len(run.tasks["t"].attempts) == attempts


def raising(error):
    def action():
        raise error

    return action


def test_skip_fail_and_retry_tasks(executor):
    skipped = Task("skipped", raising(SkipTask("nothing to do")))
    below = Task("below", lambda: 1)
    skipped.set_downstream(below)
    failed = Task("failed", raising(FailTask("hopeless")), retries=5)
    again = Task("again", raising(RetryTask(delay=0.0)), retries=2)
    run = pipeline_of(skipped, below, failed, again).run(executor=executor)
    assert run.tasks["skipped"].status == "SKIPPED"
    assert run.tasks["skipped"].skip_cause == "RAISED"
    assert run.tasks["below"].skip_cause == "RULE"
    assert len(run.tasks["failed"].attempts) == 1
    assert "hopeless" in str(run.failures["failed"])
    assert len(run.tasks["again"].attempts) == 3
    assert list(run.failures) == ["failed", "again"]


def test_failure_is_told_downstream_and_to_alerts(executor):
    extract = Task("extract", raising(OSError("disk")))
    load = Task("load", lambda: 1)
    alert = Task("alert", lambda context: {k: str(v) for k, v in context.errors.items()}, trigger_rule="one_failed")
    clean = Task("clean", lambda context: dict(context.upstream), trigger_rule="all_done")
    extract.set_downstream(load).set_downstream(alert).set_downstream(clean)
    run = pipeline_of(extract, load, alert, clean).run(executor=executor)
    assert run.status == "FAILED"
    assert run.tasks["load"].skip_cause == "UPSTREAM_FAILED"
    assert list(run["alert"]) == ["extract"]
    assert "disk" in run["alert"]["extract"]
    assert run["clean"] == {"alert": "SUCCESS", "load": "SKIPPED", "extract": "FAILED"}
    assert "UPSTREAM_FAILED" in run.explain("load")


def test_raise_on_failure(executor):
    tasks = [Task("a", raising(ValueError("x"))), Task("b", raising(KeyError("y"))), Task("c", lambda: 1)]
    pipeline = pipeline_of(*tasks)
    with pytest.raises(RunFailedError) as caught:
        pipeline.run(executor=executor, raise_on_failure=True)
    assert [type(error.__cause__) for error in caught.value.exceptions] == [ValueError, KeyError]
    assert caught.value.run is pipeline.last_run
    assert caught.value.run["c"] == 1


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(1)], ids=repr)
def test_base_exceptions_of_a_task_fail_it_and_nothing_else(executor, error):
    run = pipeline_of(Task("bad", raising(error)), Task("good", lambda: 1)).run(executor=executor)
    assert run.tasks["bad"].status == "FAILED"
    assert type(run.failures["bad"].__cause__) is type(error)
    assert run["good"] == 1


def test_u9_an_exception_may_be_a_value(executor):
    run = pipeline_of(Task("t", lambda: ValueError("only data"))).run(executor=executor)
    assert isinstance(run["t"], ValueError)


def test_notes_and_cause_survive(executor):
    def action():
        try:
            raise KeyError("inner")
        except KeyError as inner:
            error = ValueError("outer", 42)
            error.add_note("look at the log")
            raise error from inner

    cause = pipeline_of(Task("t", action)).run(executor=executor).failures["t"].__cause__
    assert cause.args == ("outer", 42)
    assert cause.__notes__ == ["look at the log"]
    assert isinstance(cause.__cause__, KeyError)


def test_timeout(executor):
    slow = Task("slow", time.sleep, (0.3,), timeout=0.05)
    below = Task("below", lambda: 1, trigger_rule="all_failed")
    slow.set_downstream(below)
    run = pipeline_of(slow, below, Task("good", lambda: 1)).run(executor=executor)
    error = run.failures["slow"]
    assert isinstance(error, TaskTimeoutError)
    assert isinstance(error, TimeoutError)
    assert error.timeout_s == 0.05
    assert run["below"] == run["good"] == 1
    assert run.tasks["slow"].attempts[0].status == "TIMED_OUT"


def test_run_timeout_cancels(executor):
    first = Task("first", time.sleep, (0.2,))
    second = Task("second", lambda: 1)
    first.set_downstream(second)
    pipeline = pipeline_of(first, second)
    run = pipeline.run(executor=executor, timeout=0.05)
    assert run.status == "CANCELLED"
    assert run.tasks["second"].status == second.status == "CANCELLED"
    with pytest.raises(RunCancelledError) as caught:
        pipeline.run(executor=executor, timeout=0.05, raise_on_failure=True)
    assert caught.value.run is pipeline.last_run


def test_returning_a_task_or_calling_a_factory_points_to_fn(executor):
    @task
    def helper():
        return 1

    made = Task("made", lambda: 1)
    run = pipeline_of(Task("returns", lambda: made), Task("calls", lambda: helper())).run(executor=executor)
    for name in ("returns", "calls"):
        error = run.failures[name]
        cause = error if isinstance(error, NestedRunError) else error.__cause__
        assert isinstance(cause, NestedRunError)
        assert ".fn" in str(cause)


def test_definition_errors_come_first(executor):
    a, b = Task("a", lambda: 1), Task("b", lambda: 1)
    a.set_downstream(b).set_downstream(a)
    with pytest.raises(DefinitionError, match="a -> b -> a"):
        pipeline_of(a, b).run(executor=executor)
    with pytest.raises(DefinitionError, match="'a'"):
        pipeline_of(Task("a", lambda: 1)).run(context={"a": 1}, executor=executor)


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "4", float("nan")])
def test_bad_numbers_are_refused(executor, bad):
    with pytest.raises(DefinitionError):
        pipeline_of().run(executor=executor, max_workers=bad)


def test_d6_empty_pipeline(executor):
    run = pipeline_of().run(executor=executor)
    assert (run.status, dict(run), list(run.tasks)) == ("SUCCESS", {}, [])


def test_records(executor):
    run = pipeline_of(Task("t", lambda: sum(range(100_000)))).run(executor=executor)
    (attempt,) = run.tasks["t"].attempts
    assert attempt.worker_pid > 0
    assert 0 <= attempt.started_s <= run.duration_s
    assert 0 <= attempt.wall_s < 60
    assert 0 <= attempt.cpu_s < 60
    assert attempt.peak_memory_bytes > 1_000_000
    assert attempt.error is None
    assert run.duration_s > 0
    assert run.started_at.tzinfo is not None
