"""U20: standard streams that a task, or an initializer, has replaced by what raises when it is asked for anything."""

from __future__ import annotations

import os
import sys

import pytest

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task, TaskCancelled, TaskTimeoutError


class Hostile(BaseException):
    pass


RAISED = [SystemExit, KeyboardInterrupt, Hostile, TaskCancelled, RecursionError]
PLACES = ["flush", "closed", "__getattribute__", "__getattr__", "__class__", "__eq__", "__bool__", "__del__",
          "class __getattribute__", "class __eq__"]  # fmt: skip


def hostile_stream(place, kind):
    def refuse(*args):
        raise kind

    if place.startswith("class "):
        return type("Meta", (type,), {place[6:]: refuse, "__hash__": None})("Stream", (), {"flush": refuse})()
    return type("Stream", (), {place: property(refuse) if place in {"closed", "__class__"} else refuse})()


def runs_on(executor, *tasks):
    """Run the tasks one after the other; they, and one after them, have had the same worker."""
    after = Task("after", lambda: (os.getpid(), type(sys.stdout).__module__, type(sys.stderr).__module__))
    pipeline = Pipeline("p")
    for one, other in zip(tasks, (*tasks[1:], after), strict=True):
        pipeline.add_task(one)
        one.set_downstream(other)
    run = pipeline.add_task(after).run(executor=executor, max_workers=1)
    assert run.status == "SUCCESS"
    assert run["after"][1:] == ("_io", "_io")
    assert {run.task_run(task.name).attempts[0].worker_pid for task in tasks} == {run["after"][0]}
    return run


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_u20_a_stream_of_the_tasks_own_that_fights_back(name, kind):
    def replace(place):
        setattr(sys, name, hostile_stream(place, kind))
        return place

    run = runs_on("process", *(Task(place, replace, (place,)) for place in PLACES))
    assert [run[place] for place in PLACES] == PLACES


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("place", ["flush", "closed", "__getattribute__", "encoding", "class __getattribute__"])
def test_u20_a_stream_of_the_initializers_own_that_fights_back(place, kind):
    def initialize():
        sys.stdout = hostile_stream(place, kind)

    def result():
        sys.stdout = None
        return 1

    with ProcessExecutor(1, initializer=initialize) as executor:
        pipeline = Pipeline("p")
        for number in range(3):
            pipeline.add_task(Task(f"t{number}", result))
        run = pipeline.run(executor=executor, timeout=60)
    assert [*run.values()] == [1, 1, 1]
    assert len({run.task_run(name).attempts[0].worker_pid for name in run}) == 1


def test_u20_a_stream_that_is_detached(capfd):
    def detach():
        kept.append(sys.stdout.detach())

    kept = []
    runs_on("process", Task("detach", detach), Task("say", lambda: print("said")))
    assert "said" in capfd.readouterr().out


def test_u20_open_replaced_and_the_stream_closed():
    def close():
        import builtins

        builtins.open = None
        sys.stdout.close()

    with ProcessExecutor(1) as executor:
        runs_on(executor, Task("close", close))


def test_u20_a_flush_that_takes_until_it_is_stopped_is_a_time_out():
    class Stream:
        def flush(self):
            while True:
                pass

    def replace():
        sys.stdout = Stream()

    with ProcessExecutor(1, kill_grace_s=60.0) as executor:
        pipeline = Pipeline("p").add_task(Task("t", replace, timeout=0.3))
        run = pipeline.run(executor=executor)
    assert type(run.failures["t"]) is TaskTimeoutError
    assert run.duration_s < 30
