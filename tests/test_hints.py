"""What a message tells beyond what is wrong: what was probably meant, and what to do."""

from __future__ import annotations

import pytest

from dremioframe.orchestration import (
    DefinitionError,
    ExecutorClosedError,
    FailTask,
    Pipeline,
    ProcessExecutor,
    Task,
    TaskError,
    WorkerLostError,
)
from dremioframe.orchestration.options import meant
from dremioframe.orchestration.testing import SimulatedExecutor, fail, lose_worker


def pipeline_of(*tasks):
    pipeline = Pipeline("p")
    for task in tasks:
        pipeline.add_task(task)
    return pipeline


@pytest.mark.parametrize(
    ("end", "said"), [([Task("b", int)], "; call it once for each;"), ("b", "; pass the Task, not its name;")]
)
def test_an_edge_to_what_is_no_task(end, said):
    with pytest.raises(DefinitionError, match=said):
        Task("a", int).set_downstream(end)


def test_an_executor_class_and_one_that_is_closed():
    pipeline = pipeline_of(Task("a", int))
    with pytest.raises(DefinitionError, match=r"; did you mean ProcessExecutor\(\)\?"):
        pipeline.run(executor=ProcessExecutor)
    with pytest.raises(DefinitionError, match=r"not <class 'int'>$"):
        pipeline.run(executor=int)
    executor = ProcessExecutor(max_workers=1)
    executor.close()
    with pytest.raises(ExecutorClosedError, match=r"given to run\(\) or start\(\) has been closed.*make a new one"):
        pipeline.run(executor=executor)


def test_a_run_without_a_task_of_that_name():
    run = pipeline_of(Task("extract", int)).run()
    for read in (lambda: run["extrct"], lambda: run.tasks["extrct"]):
        with pytest.raises(KeyError, match="has no task 'extrct'; did you mean 'extract'"):
            read()


def test_nobody_compares_a_name_with_very_many():
    assert meant("extrct", ["extract"] * 1_000) == "; did you mean 'extract'?"
    assert meant("extrct", ["extract"] * 1_001) == ""


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("extrct", "no task has that name; did you mean 'extract'"),
        ("dat", "no task has that name; did you mean 'date'"),
        ("aside", "not upstream of 'load'; draw an edge from it"),
    ],
)
def test_a_context_without_that_value(asked, said):
    extract, load = Task("extract", int), Task("load", lambda context: context[asked])
    extract.set_downstream(load)
    run = pipeline_of(Task("aside", int), extract, load).run(context={"date": "today"})
    assert said in str(run.failures["load"])


@pytest.mark.parametrize(
    ("behaviour", "retry_on", "said"),
    [
        (fail(KeyError("x")), OSError, "KeyError is not in its retry_on"),
        (fail(KeyError("x")), lambda error: False, "its retry_on wants no other attempt after KeyError"),
        (fail(FailTask("no")), OSError, "its error, dremioframe.orchestration.errors.FailTask, is not to be retried"),
        (fail(SystemExit(1)), Exception, "its error, SystemExit, is not to be retried"),
        (lose_worker(), OSError, "WorkerLostError is not in its retry_on"),
    ],
)
def test_why_an_error_is_not_retried(behaviour, retry_on, said):
    task = Task("t", int, retries=3, retry_on=retry_on)
    run = pipeline_of(task).run(executor=SimulatedExecutor(script={"t": behaviour}))
    assert isinstance(run.failures["t"], TaskError | WorkerLostError)
    assert f"attempt 1 failed, {said}" in run.explain("t")


def test_retry_means_retries_only_where_that_is_a_name():
    assert meant("retry", ["retries", "retry_on"]) == "; did you mean 'retries'?"
    assert meant("retry", ["load"], ["retry_all"]) == "; did you mean 'retry_all'?"
