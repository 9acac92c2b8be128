"""Code that is large: it travels once to each worker, and who made it large by accident is told by which variable."""

from __future__ import annotations

import functools
import os

import numpy as np
import pytest
from loguru import logger

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task
from dremioframe.orchestration.executors import process_calls
from dremioframe.orchestration.payload.weight import heaviest

BYTES = 80_000_000


@pytest.fixture
def said():
    lines = []
    handler = logger.add(lambda message: lines.append(message.record), level="WARNING")
    yield lines
    logger.remove(handler)


def by_closure(table):
    return lambda: len(table)


def by_default(table):
    return lambda rows=table: len(rows)


def by_partial(table):
    return functools.partial(lambda rows: len(rows), rows=table)


def by_helper(table):
    def helper():
        return len(table)

    return lambda: helper()


class Holder:
    def __init__(self, table):
        self.table = table
        self.note = "small"

    def __call__(self):
        return len(self.table)

    def method(self):
        return len(self.table)


def by_object(table):
    return Holder(table)


def by_method(table):
    return Holder(table).method


MAKERS = {
    "action<closure table>": by_closure,
    "action<default 0>": by_default,
    "action.keywords['rows']": by_partial,
    "action<closure helper><closure table>": by_helper,
    "action.table": by_object,
    "action.__self__.table": by_method,
}


@pytest.mark.parametrize("path", MAKERS)
def test_p17_code_that_carries_much_is_told_with_the_variable(said, path):
    action = MAKERS[path](bytes(BYTES))
    pipeline = Pipeline("heavy").add_task(Task("a", action)).add_task(Task("b", action))
    with ProcessExecutor(max_workers=2) as executor:
        run = pipeline.run(executor=executor)
    assert (run["a"], run["b"]) == (BYTES, BYTES)
    (warning,) = said  # once, although two tasks have this code
    assert f"the code of task 'a' takes 80 MB to each worker that runs it, 80 MB of them in {path};" in str(
        warning["message"]
    )
    assert warning["extra"]["task"] == "a"


def test_p17_usual_code_is_not_weighed(said, monkeypatch):
    monkeypatch.setattr(process_calls, "_heavy_code", None)  # nothing asks for it
    table = bytes(1_000_000)
    assert Pipeline("light").add_task(Task("t", lambda: len(table))).run(executor="process")["t"] == len(table)
    assert not said


def test_p17_what_is_heavy_by_many_small_things_is_told_as_a_whole():
    things = [np.ones(1000 + number) for number in range(10)]
    one, two, three = things[:3]
    path, weight = heaviest(lambda: (one, two, three))
    assert path == ""
    assert weight > 24_000


def test_p17_what_cannot_be_pickled_weighs_nothing():
    class Hostile:
        def __reduce__(self):
            raise SystemExit(1)

    assert heaviest((Hostile(),)) == ("", 0)


def test_code_is_asked_for_once_by_each_worker_whatever_its_length(monkeypatch):
    asked = []
    answer = process_calls.CallData.answer

    def noting(self, task, attempt, request):
        asked.append(request[:1])
        return answer(self, task, attempt, request)

    monkeypatch.setattr(process_calls.CallData, "answer", noting)
    for size in (10, 1_000_000):  # in a packet, in shared memory
        table = bytes(size)

        def measure(table=table):
            return len(table), os.getpid()

        pipeline = Pipeline("once")
        for number in range(200):
            pipeline.add_task(Task(f"t{number}", measure))
        asked.clear()
        with ProcessExecutor(max_workers=3) as executor:
            run = pipeline.run(executor=executor)
        assert {length for length, _ in run.values()} == {size}
        assert asked.count(process_calls.calls.Request.CODE) == len({pid for _, pid in run.values()})


def test_a_long_input_that_nobody_reads_costs_nothing():
    first = Task("first", bytes, (BYTES,))
    second = Task("second", lambda context: context.task_name)
    third = Task("third", lambda context: context["second"])
    first.set_downstream(second).set_downstream(third)
    pipeline = Pipeline("unread").add_task(first).add_task(second).add_task(third)
    run = pipeline.run(executor="process", max_workers=2, raise_on_failure=True)
    assert run["third"] == "second"
    assert [run.tasks[name].attempts[0].bytes_in < 10_000 for name in ("second", "third")] == [True, True]
