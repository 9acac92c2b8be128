"""P7, P8: what a run tells of values and errors that fight back when the user reads them; a real Ctrl-C is heard."""

from __future__ import annotations

import os
import pickle
import signal

import pytest

from dremioframe.orchestration import PayloadError, Pipeline, Task, TaskError, TaskState


class Hostile(BaseException):
    pass


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    while True:
        pass


def raising(kind):
    def act():
        raise kind

    return act


class ActsAtHome:
    """Acts where it is unpickled, if that is in this process."""

    def __init__(self, home, act):
        self.home = home
        self.act = act

    def __setstate__(self, state):
        self.__dict__.update(state)
        if os.getpid() == self.home:
            self.act()


def run_of(act):
    home = os.getpid()

    def fail():
        error = ValueError("what happened")
        error.acts = ActsAtHome(home, act)
        raise error

    pipeline = Pipeline("p").add_task(Task("value", lambda: ActsAtHome(home, act))).add_task(Task("good", lambda: 1))
    return pipeline.add_task(Task("error", fail)).run(executor="process")


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, Hostile, GeneratorExit, RecursionError])
def test_p7_what_fights_back_where_it_is_read(kind):
    run = run_of(raising(kind))
    for read in (lambda: run["value"], lambda: dict(run), lambda: run.get("value"), lambda: pickle.dumps(run)):
        with pytest.raises(PayloadError, match=kind.__name__) as caught:
            read()
        assert (caught.value.task, caught.value.stage) == ("value", "result_unpickle")
    assert run["good"] == 1
    error = run.failures["error"]
    assert type(error) is TaskError
    assert "what happened" in str(error.__cause__)
    assert str(error) in run.explain("error")
    assert run.tasks["error"].status is TaskState.FAILED


def test_p8_a_real_ctrl_c_ends_what_is_read_and_may_be_followed_by_another_try():
    run = run_of(interrupt)
    for read in (lambda: run["value"], lambda: dict(run), lambda: run.failures["error"]):
        with pytest.raises(KeyboardInterrupt):
            read()
    assert run["good"] == 1


@pytest.mark.parametrize("place", ["__str__", "retry_on"])
def test_inline_a_real_ctrl_c_while_an_error_is_looked_at_stops_the_run(place):
    class Waits(ValueError):
        def __str__(self):
            return interrupt() if place == "__str__" else "text"

    def action():
        raise Waits

    def retry_on(error):
        return interrupt() if place == "retry_on" else False

    pipeline = Pipeline("p").add_task(Task("t", action, retries=1, retry_on=retry_on)).add_task(Task("never", int))
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(executor="inline")
    assert pipeline.last_run.status == "CANCELLED"
    assert pipeline.last_run.tasks["t"].status == pipeline.last_run.tasks["never"].status == "CANCELLED"
    assert len(pipeline.last_run.tasks["t"].attempts) == 1


def test_run_alone_hears_ctrl_c_in_a_predicate():
    def action():
        raise ValueError

    with pytest.raises(KeyboardInterrupt):
        Task("t", action, retries=1, retry_on=lambda error: interrupt()).run()
