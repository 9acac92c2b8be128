"""U5, U6: exceptions that fight back when they are only looked at; whichever executor runs the task, it fails alone."""

from __future__ import annotations

import os
import pickle

import pytest

from dremioframe.orchestration import PayloadError, Pipeline, ProcessExecutor, RetryTask, Task, TaskCancelled, TaskError


class Hostile(BaseException):
    pass


@pytest.fixture(scope="module")
def warm_processes():
    """One worker for all tests here: every one of them shows that it lives on."""
    with ProcessExecutor(max_workers=1) as executor:
        Pipeline("warm").add_task(Task("up", os.getpid)).run(executor=executor)
        yield executor


@pytest.fixture
def executor(executor, warm_processes):
    return warm_processes if executor == "process" else executor


RAISED = [SystemExit, KeyboardInterrupt, Hostile, TaskCancelled, RecursionError]

METHODS = ["__reduce__", "__reduce_ex__", "__str__", "__repr__", "__setstate__", "__getattribute__", "__setattr__",
           "__hash__", "__eq__", "__bool__"]  # fmt: skip
PROPERTIES = ["__class__", "__cause__", "__context__", "__suppress_context__", "__notes__", "__traceback__", "__dict__",
              "args"]  # fmt: skip
OF_THE_CLASS = ["__module__", "__name__", "__getattribute__", "__hash__"]
PLACES = METHODS + PROPERTIES + [f"class {name}" for name in OF_THE_CLASS]


def hostile_class(place, kind, base=ValueError):
    """A subclass of ``base`` whose ``place`` raises ``kind``; with "class" before it, the class's own."""

    def refuse(*args):
        raise kind(f"from {place}")

    kind_of_name, _, name = place.rpartition(" ")
    as_property = name in PROPERTIES or name in {"__module__", "__name__"}
    body = {name: property(refuse) if as_property else refuse}
    if not kind_of_name:
        return type("Fights", (base,), body)
    return type("Meta", (type(base),), body)("Fights", (base,), {})


def chained(first, *others):
    pipeline = Pipeline("p").add_task(first)
    for other in others:
        first.set_downstream(other)
        pipeline.add_task(other)
    return pipeline


def fails_alone(action, executor, **options):
    """The error of the task; its worker has run another task since, and all that tells of the failure can be read."""
    bad = Task("bad", action, retry_delay=0.0, **options)
    told = Task("told", lambda context: str(context.errors["bad"]), trigger_rule="all_done")
    run = chained(bad, told, Task("after", os.getpid, trigger_rule="all_done")).run(executor=executor, max_workers=1)
    assert run["after"] == run.tasks["bad"].attempts[0].worker_pid
    error = run.failures["bad"]
    assert str(run.tasks["bad"].error) == str(error)
    assert run["told"] == str(error)
    assert str(error) in run.explain("bad")
    copy = pickle.loads(pickle.dumps(run))
    assert str(copy.failures["bad"]) == str(error)
    return error, run


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("place", PLACES)
def test_u5_an_exception_that_fights_back(executor, place, kind):
    def action():
        raise hostile_class(place, kind)("what happened")

    error, _ = fails_alone(action, executor)
    assert type(error) is TaskError
    assert error.__cause__ is not None
    assert "Fights" in error.error_type
    assert "Fights" in str(error)
    assert "in action" in error.traceback_text
    if place not in {"__str__", "__getattribute__"}:
        assert "what happened" in str(error)


@pytest.mark.parametrize("place", ["__cause__", "__context__", "__notes__", "args", "__traceback__"])
def test_u5_an_exception_with_an_attribute_of_another_kind(executor, place):
    def action():
        raise type("Fights", (ValueError,), {place: 5})("what happened")

    error, _ = fails_alone(action, executor)
    assert type(error) is TaskError
    assert "Fights: " in str(error)


def test_u5_a_cause_that_fights_back(executor):
    def action():
        raise ValueError("above") from hostile_class("__getattribute__", SystemExit)("below")

    error, _ = fails_alone(action, executor)
    assert type(error.__cause__) is ValueError
    assert "above" in error.traceback_text


class Text(str):
    __slots__ = ()

    def _refuse(self, *args, **kwargs):
        raise SystemExit("text")

    encode = __len__ = __getitem__ = __format__ = __add__ = __str__ = __hash__ = __eq__ = __bool__ = _refuse


def test_u5_texts_that_fight_back(executor):
    class Fights(ValueError):
        def __str__(self):
            return Text("what happened")

    Fights.__qualname__ = Text("Fights")

    def action():
        raise Fights

    error, _ = fails_alone(action, executor)
    assert type(str(error)) is str
    assert "what happened" in str(error)


@pytest.mark.parametrize(
    ("retry_on", "attempts"),
    [(Exception, 2), ((OSError, ValueError), 2), (KeyError, 1), (lambda error: True, 2)],
    ids=["class", "tuple", "another", "predicate"],
)
@pytest.mark.parametrize("place", ["__class__", "__reduce__", "__str__", "__getattribute__", "class __getattribute__"])
def test_u5_retry_on_sees_the_class_of_an_exception_that_fights_back(executor, place, retry_on, attempts):
    def action():
        raise hostile_class(place, SystemExit)("what happened")

    error, run = fails_alone(action, executor, retries=1, retry_on=retry_on)
    assert type(error) is TaskError
    assert len(run.tasks["bad"].attempts) == attempts


@pytest.mark.parametrize("place", ["__str__", "__class__", "class __module__", "class __name__"])
def test_u5_a_predicate_that_raises_what_fights_back(executor, place):
    def action():
        raise ValueError("what happened")

    def retry_on(error):
        raise hostile_class(place, SystemExit, BaseException)("no answer")

    error, _ = fails_alone(action, executor, retries=1, retry_on=retry_on)
    assert "not retried: retry_on itself raised" in error.__notes__[0]


@pytest.mark.parametrize("place", ["__bool__", "__len__"])
def test_u5_a_predicate_whose_answer_fights_back(executor, place):
    def action():
        raise ValueError("what happened")

    error, _ = fails_alone(action, executor, retries=1, retry_on=lambda error: hostile_class(place, SystemExit)())
    assert "not retried: retry_on itself raised SystemExit" in error.__notes__[0]


@pytest.mark.parametrize("place", PLACES)
def test_u5_the_engines_own_errors_in_a_form_that_fights_back(executor, place):
    def action():
        raise hostile_class(place, SystemExit, PayloadError)("what happened")

    error, _ = fails_alone(action, executor)
    assert type(error) in {TaskError, PayloadError}


def test_u5_an_error_of_the_engine_with_attributes_of_another_kind(executor):
    def action():
        error = PayloadError("what happened")
        error.task = error.stage = error.path = hostile_class("__str__", SystemExit)()
        error.__notes__ = 5
        error.args = (hostile_class("__str__", SystemExit)(),)
        raise error

    fails_alone(action, executor, retries=1, retry_on=lambda error: False)


def test_u6_what_a_task_cannot_mean_for_its_worker(executor):
    def action():
        raise TaskCancelled

    error, _ = fails_alone(action, executor)
    assert type(error.__cause__) is TaskCancelled


# --- RetryTask with another delay -------------------------------------------------------------------------------------


class Delay:
    def __float__(self):
        raise SystemExit("no number")


@pytest.mark.parametrize(
    "delay",
    ["soon", float("nan"), -1, 10**400, True, Delay(), float("inf"), b"1"],
    ids=["text", "nan", "negative", "huge", "bool", "raises", "inf", "bytes"],
)
def test_a_delay_changed_to_nonsense_is_noted_and_the_tasks_own_is_used(executor, delay):
    def action(context):
        if context.attempt == 1:
            error = RetryTask(0.0)
            error.delay = delay
            raise error
        return context.attempt

    pipeline = chained(Task("bad", action, retries=1, retry_delay=0.001, retry_jitter=0.0))
    run = pipeline.run(executor=executor)
    assert run["bad"] == 2
    first = run.tasks["bad"].attempts[0]
    assert first.status == "RETRY"
    assert "the task's own delay" in first.error.__notes__[0]
    assert "follows in 0.001 s" in run.explain("bad")


def test_a_delay_that_is_gone_or_fights_back(executor):
    class Fights(RetryTask):
        delay = property(lambda self: hostile_class("__reduce__", SystemExit).no_such_thing, lambda self, value: None)

    class Gone(RetryTask):
        def __init__(self):
            super().__init__(0.0)
            del self.delay

    def action(context):
        raise Fights if context.attempt == 1 else Gone

    error, run = fails_alone(action, executor, retries=2)
    assert [attempt.status for attempt in run.tasks["bad"].attempts] == ["RETRY"] * 3
    assert "the task's own delay" in error.__notes__[0]


@pytest.mark.parametrize("delay", ["soon", float("nan"), -1, 10**400])
def test_a_task_run_alone_uses_its_own_delay_too(delay):
    def action(context):
        if context.attempt == 1:
            error = RetryTask(0.0)
            error.delay = delay
            raise error
        return context.attempt

    assert Task("alone", action, retries=1, retry_delay=0.001).run() == 2


@pytest.mark.parametrize("place", ["__setattr__", "__notes__", "__getattribute__"])
def test_a_task_run_alone_raises_what_takes_no_notes(place):
    def action():
        raise hostile_class(place, SystemExit)("what happened")

    with pytest.raises(ValueError) as caught:
        Task("alone", action, retry_on=lambda error: error.no_such_attribute).run()
    assert type(caught.value).__name__ == "Fights"


@pytest.mark.parametrize("delay", ["soon", float("nan"), -1, 10**400, True])
def test_a_delay_that_is_none_is_refused_where_it_is_written(delay):
    with pytest.raises(ValueError, match="finite number of seconds"):
        RetryTask(delay)
