"""The garbage collector's thresholds during runs over processes."""

from __future__ import annotations

import gc

import pytest

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task
from dremioframe.orchestration.executors import collector


@pytest.fixture(autouse=True)
def thresholds():
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


def test_thresholds_come_back_with_the_last_user():
    collector.relax()
    collector.relax()
    assert gc.get_threshold() == (50_000, 10, 10)
    collector.restore()
    assert gc.get_threshold() == (50_000, 10, 10)
    collector.restore()
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("own", [(0, 0, 0), (90_000, 5, 5)])
def test_a_collector_that_is_off_or_rarer_already_is_left_alone(own):
    gc.set_threshold(*own)
    collector.relax()
    assert gc.get_threshold() == own
    collector.restore()
    assert gc.get_threshold() == own


def test_what_the_user_sets_meanwhile_stays():
    collector.relax()
    gc.set_threshold(1234, 1, 1)
    collector.restore()
    assert gc.get_threshold() == (1234, 1, 1)


def test_after_a_run_they_are_as_before():
    def fail():
        raise ValueError

    with ProcessExecutor(max_workers=1) as executor:
        run = Pipeline("p").add_task(Task("fails", fail)).run(executor=executor)
    assert run.status == "FAILED"
    assert gc.get_threshold() == (700, 10, 10)
