"""Scripts of the simulated executor that cannot be played: what is wrong is told, and with which task."""

from __future__ import annotations

import pytest

from dremioframe.orchestration import DefinitionError, Pipeline, Task
from dremioframe.orchestration.testing import SimulatedExecutor, exceed_memory, fail, never_start, succeed
from dremioframe.orchestration.testing.behaviour import Behaviour


def run(script, **options):
    pipeline = Pipeline("p").add_task(Task("x", lambda: 1))
    return pipeline.run(executor=SimulatedExecutor(script=script), **options)


@pytest.mark.watchdog(30)
def test_a_task_that_is_taken_back_while_the_clock_stands_still_ends_the_run():
    with pytest.raises(RuntimeError, match=r"waits for ever for \['x'\].* 1,000 times at 0 s"):
        run({"x": never_start()}, timeout=10)


def test_a_task_may_be_taken_back_often_as_time_goes_by():
    often = [never_start()] * 999 + [never_start(after_s=1.0)] + [never_start()] * 998 + [succeed("ok")]
    assert run({"x": often})["x"] == "ok"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ({"x": []}, r"task 'x' must be a behaviour.*not \[\]"),
        (lambda name, dispatch: None, "task 'x' must be a behaviour.*not None"),
        (lambda name, dispatch: Behaviour("call", -1.0), "task 'x': after_s must be .* not -1.0"),
        ({"x": [succeed(), Behaviour("raise", error="boom")]}, "task 'x': what it raises must be .*not 'boom'"),
        ({"x": Behaviour("call", float("nan"))}, "task 'x': after_s must be .* not nan"),
    ],
)
def test_a_script_that_cannot_be_played_names_its_task(script, said):
    with pytest.raises(DefinitionError, match=said) as caught:
        run(script)
    assert caught.value.task == "x"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fail("boom"), r"must be an exception, as in fail\(ValueError\('boom'\)\), not 'boom'"),
        (lambda: fail(ValueError), "must be an exception.*not <class 'ValueError'>"),
        (lambda: succeed(after_s=-1), "after_s must be a number of seconds, 0 or more, not -1"),
        (lambda: exceed_memory(float("nan")), "after_s must be .* not nan"),
        (lambda: never_start("soon"), "after_s must be .* not 'soon'"),
    ],
)
def test_a_behaviour_that_cannot_be_is_refused_where_it_is_made(make, said):
    with pytest.raises(DefinitionError, match=said):
        make()
