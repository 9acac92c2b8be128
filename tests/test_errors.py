"""Errors as records: each of them survives pickle and copies with its fields, its cause and its run."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading

import pytest

from dremioframe.orchestration import (
    DefinitionError,
    ExecutorClosedError,
    FailTask,
    MemoryLimitExceededError,
    NestedRunError,
    OrchestrationError,
    PayloadError,
    Pipeline,
    RemoteError,
    RetryTask,
    RunCancelledError,
    RunFailedError,
    SkipTask,
    Task,
    TaskCancelled,
    TaskError,
    TaskTimeoutError,
    WorkerLostError,
    WorkerStartError,
    errors,
)

EXECUTORS = ("inline", "thread", "process")
ALL = [
    OrchestrationError("said", task="t", attempt=2),
    DefinitionError("said", task="t"),
    TaskError("said", task="t", attempt=2, error_type="ValueError", traceback_text="Traceback ..."),
    RemoteError("said", "pkg.Odd", "Traceback ..."),
    TaskTimeoutError("said", task="t", attempt=2, timeout_s=1.5, stack="here"),
    MemoryLimitExceededError(
        "said", task="t", attempt=2, limit_bytes=5, used_bytes=7, processes=[(1, "python", 7)], stack="here"
    ),
    WorkerLostError("said", task="t", attempt=2, pid=7, exit_code=3, signal=9, stack="here"),
    WorkerStartError("said", boot_traceback="Traceback ..."),
    PayloadError("said", task="t", attempt=2, stage="result_pickle", path="result[0]"),
    RunCancelledError("said"),
    ExecutorClosedError("said"),
    NestedRunError("said"),
    SkipTask("said"),
    FailTask("said"),
    RetryTask(3.0, "said"),
    TaskCancelled("said"),
]


def through_pickle(error):
    return pickle.loads(pickle.dumps(error))


def through_c_less_pickle(error):
    return pickle.loads(pickle._dumps(error, 2))


WAYS = (through_pickle, through_c_less_pickle, copy.deepcopy, copy.copy)


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def way(request):
    return request.param


def test_every_class_is_tried():
    classes = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, BaseException)}
    assert classes == {type(error) for error in ALL} | {RunFailedError}


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_fields_and_notes_survive(error, way):
    error = copy.copy(error)
    error.add_note("by the way")
    twin = way(error)
    assert twin is not error
    assert (type(twin), str(twin), twin.args, vars(twin)) == (type(error), str(error), error.args, vars(error))
    assert (twin.__cause__, twin.__suppress_context__) == (None, False)


# --- causes -----------------------------------------------------------------------------------------------------------


def caused(cause):
    error = TaskError("said", task="t", attempt=1, error_type="X", traceback_text="as it was")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("executor", EXECUTORS)
def test_failures_with_a_local_class_can_be_pickled(executor):
    class Local(Exception):
        def __init__(self, code):
            super().__init__(f"code {code}")
            self.code = code

    def action():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise Local(5) from error

    failures = Pipeline("p").add_task(Task("t", action)).run(executor=executor).failures
    for way in (through_pickle, copy.deepcopy):
        twin = way(failures)["t"]
        assert (type(twin), str(twin), vars(twin)) == (TaskError, str(failures["t"]), vars(failures["t"]))
        assert type(twin.__cause__) is Local
        assert (twin.__cause__.code, str(twin.__cause__)) == (5, "code 5")
        assert repr(twin.__cause__.__cause__) == "KeyError('first')"


class Holding(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


def test_a_cause_that_nothing_can_pickle_becomes_a_stand_in():
    for way in (through_pickle, copy.deepcopy):
        cause = way(caused(Holding("still said"))).__cause__
        assert type(cause) is RemoteError
        assert str(cause).endswith("test_errors.Holding: still said")
        assert cause.traceback_text == "as it was"
        middle = ValueError("main")
        middle.__cause__ = Holding("inner")
        cause = way(caused(middle)).__cause__
        assert repr(cause) == "ValueError('main')"
        assert type(cause.__cause__) is RemoteError


def test_a_shallow_copy_shares_the_cause():
    cause = Holding("x")
    assert copy.copy(caused(cause)).__cause__ is cause


def test_causes_that_go_in_a_circle():
    one, two = caused(None), caused(None)
    one.__cause__, two.__cause__ = two, one
    for way in (through_pickle, copy.deepcopy):
        assert str(way(one).__cause__.__cause__) == "said"


class Falsy(Exception):
    def __bool__(self):
        return False


def test_a_cause_that_is_false_is_one():
    assert type(through_pickle(caused(Falsy())).__cause__) is Falsy


def test_a_large_cause_is_kept():
    assert len(through_pickle(caused(ValueError("x", bytes(5 << 20)))).__cause__.args[1]) == 5 << 20


SCRIPT = """
import pickle, sys
from dremioframe.orchestration import Pipeline, Task
class Own(Exception):
    x = 5
def action():
    raise Own("bad")
run = Pipeline("p").add_task(Task("t", action)).run(executor=sys.argv[2])
with open(sys.argv[1], "wb") as file:
    pickle.dump(MADE, file)
"""


@pytest.mark.parametrize("executor", ["thread", "process"])
@pytest.mark.parametrize("made", ["run.failures", "run"])
def test_local_classes_arrive_in_another_process(tmp_path, executor, made):
    command = [sys.executable, "-c", SCRIPT.replace("MADE", made), str(tmp_path / "made"), executor]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    thing = pickle.loads((tmp_path / "made").read_bytes())
    cause = (thing["t"] if made == "run.failures" else thing.failures["t"]).__cause__
    assert (type(cause).__name__, cause.x, str(cause)) == ("Own", 5, "bad")


def test_a_class_that_the_reader_has_not_becomes_a_stand_in(tmp_path):
    (tmp_path / "gone.py").write_text("class Gone(Exception): pass\n")
    code = """
import pickle, sys
from dremioframe.orchestration import Pipeline, Task
from gone import Gone
def action():
    raise Gone("bad")
sys.stdout.buffer.write(pickle.dumps(Pipeline("p").add_task(Task("t", action)).run().failures["t"]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)
    error = pickle.loads(done.stdout)
    assert str(error) == "task 't', attempt 1: gone.Gone: bad"
    assert type(error.__cause__) is RemoteError
    assert str(error.__cause__) == "gone.Gone: bad"
    assert "in action" in error.__cause__.traceback_text


def test_a_worker_gives_back_errors_it_was_told_of_in_any_way():
    class Local(Exception):
        pass

    def action():
        raise Local("bad")

    def tell(context):
        class Made(Exception):
            pass

        made = TaskError("made")
        made.__cause__ = Made("here")
        told = context.errors["fails"]
        return told, pickle.dumps(told), made, pickle.dumps(made)

    def also(context):  # the second reader of a class that a worker made: it must still know where it comes from
        told = [pickle.loads(each) if isinstance(each, bytes) else each for each in context["tell"]]
        return [type(each.__cause__) for each in told]

    pipeline = Pipeline("p", max_workers=1)
    fails, told = Task("fails", action), Task("tell", tell, trigger_rule="all_failed")
    last = Task("also", also)
    fails.set_downstream(told).set_downstream(last)
    run = pipeline.add_task(fails).add_task(told).add_task(last).run(executor="process")
    straight, pickled, made, made_pickled = run["tell"]
    assert type(straight.__cause__) is type(pickle.loads(pickled).__cause__) is Local
    assert type(made.__cause__).__name__ == type(pickle.loads(made_pickled).__cause__).__name__ == "Made"
    assert [kind.__name__ for kind in run["also"]] == ["Local", "Local", "Made", "Made"]
    assert run["also"][0] is Local


# --- errors with a run ------------------------------------------------------------------------------------------------


@pytest.fixture
def failed_run():
    pipeline = Pipeline("p").add_task(Task("fine", lambda: [1])).add_task(Task("bad", lambda: 1 / 0))
    return pipeline.add_task(Task("worse", lambda: {}["x"])).run()


def test_a_failed_runs_group_keeps_its_parts_and_its_run(failed_run, way):
    with pytest.raises(RunFailedError) as caught:
        failed_run.raise_for_failure()
    group = caught.value
    group.add_note("by the way")
    twin = way(group)
    assert (type(twin), twin.message, str(twin)) == (RunFailedError, group.message, str(group))
    assert (twin.task, twin.attempt, twin.__notes__) == (None, None, ["by the way"])
    assert [type(part.__cause__) for part in twin.exceptions] == [ZeroDivisionError, KeyError]
    assert (dict(twin.run), list(twin.run.failures)) == ({"fine": [1]}, ["bad", "worse"])
    assert twin.split(TaskError)[0].run is twin.run


def test_a_cancelled_runs_error_keeps_its_run(failed_run, way):
    twin = way(RunCancelledError("stopped", run=failed_run))
    assert (str(twin), dict(twin.run)) == ("stopped", {"fine": [1]})


def test_a_value_that_cannot_be_pickled_does_not_keep_its_runs_error_at_home(failed_run):
    pipeline = Pipeline("p").add_task(Task("fine", lambda: [1])).add_task(Task("lock", threading.Lock))
    with pytest.raises(RunFailedError) as caught:
        pipeline.add_task(Task("bad", lambda: 1 / 0)).run(raise_on_failure=True)
    for way in (through_pickle, copy.deepcopy):
        run = way(caught.value).run
        assert (run["fine"], list(run.failures), run.tasks["lock"].status) == ([1], ["bad"], "SUCCESS")
        with pytest.raises(PayloadError, match=r"'lock'.*was not pickled with the run"):
            run["lock"]
        assert through_pickle(RunCancelledError("again", run=run)).run["fine"] == [1]
