"""The public face of a run: what a pipeline refuses when it is made or run, and how it is copied."""

from __future__ import annotations

import enum
import pickle
from typing import Any

import numpy as np
import pytest

from dremioframe.orchestration import DefinitionError, InlineExecutor, Pipeline, Task


def pipeline_of_one(**options: Any) -> Pipeline:
    return Pipeline("p", **options).add_task(Task("t", len, ([],)))


def test_an_unknown_executor_is_refused_by_the_constructor() -> None:
    with pytest.raises(
        DefinitionError, match=r"unknown executor 'proces'; did you mean 'process'\?; there are: inline,"
    ):
        Pipeline("p", executor="proces")
    with pytest.raises(DefinitionError, match="unknown executor 'x'; there are: inline, thread, process"):
        Pipeline("p", executor="x")
    for thing in (None, 3, InlineExecutor):
        with pytest.raises(DefinitionError, match="executor must be a name"):
            Pipeline("p", executor=thing)  # type: ignore[arg-type]


def test_a_name_is_plain_text_which_a_pickle_can_be_read_without() -> None:
    class Names(enum.StrEnum):
        ETL = "etl"
        LOAD = "load"

    run = Pipeline(Names.ETL).add_task(Task(Names.LOAD, len, ([],))).run()
    for name in (Pipeline(Names.ETL).name, run.pipeline_name, *run):
        assert type(name) is str
    assert b"Names" not in pickle.dumps(run)
    with pytest.raises(DefinitionError, match="must be text, not 3"):
        Pipeline(3)  # type: ignore[arg-type]


def test_known_executors_are_kept() -> None:
    instance = InlineExecutor()
    assert Pipeline("p", executor=instance).executor is instance
    assert [Pipeline("p", executor=name).executor for name in ("inline", "thread", "process")] == [
        "inline", "thread", "process",
    ]  # fmt: skip


@pytest.mark.parametrize("number", [3, np.int64(3), np.uint8(3)])
def test_max_workers_may_be_numpys(number: Any) -> None:
    made = Pipeline("p", max_workers=number).max_workers
    assert (type(made), made) == (int, 3)
    assert pipeline_of_one().run(max_workers=number)["t"] == 0


@pytest.mark.parametrize("number", [0, -1, 1.0, True, np.bool_(1), "2", np.int64(0)])
def test_bad_max_workers(number: Any) -> None:
    with pytest.raises(DefinitionError, match="max_workers must be a whole number"):
        Pipeline("p", max_workers=number)


def test_a_context_is_a_mapping() -> None:
    wrong: Any = "process"
    for begin in (pipeline_of_one().run, pipeline_of_one().start):
        with pytest.raises(DefinitionError) as caught:
            begin(wrong)
        said = "context must be a mapping, not 'process'; did you mean run(executor='process')?"
        assert str(caught.value) == said
    for wrong in ([1], 0, [("a", 1)]):
        with pytest.raises(DefinitionError, match="context must be a mapping, not "):
            pipeline_of_one().run(context=wrong)
    with pytest.raises(DefinitionError, match="names of the run's context values must be text, not 1"):
        pipeline_of_one().run(context={1: 2})  # type: ignore[dict-item]


def test_a_pickled_pipeline_keeps_the_name_of_its_executor() -> None:
    a, b = Task("a", len, ([],)), Task("b", len, ([],))
    a.set_downstream(b)
    for given, kept in (("inline", "inline"), (InlineExecutor(), "thread")):
        pipeline = Pipeline("p", 2, executor=given).add_task(a).add_task(b)
        twin = pickle.loads(pickle.dumps(pipeline))
        assert (twin.name, twin.max_workers, twin.executor) == ("p", 2, kept)
        assert twin.tasks[0].downstream == (twin.tasks[1],)
