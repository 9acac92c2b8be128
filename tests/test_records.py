"""What a run tells afterwards: errors by the state of the task, attempts, and its own pickle."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading

import pytest

from dremioframe.orchestration import (
    PayloadError,
    Pipeline,
    RunFailedError,
    SkipTask,
    Task,
    TaskCancelled,
    WorkerLostError,
)
from dremioframe.orchestration.payload.failure import Failure

EXECUTORS = ("inline", "thread", "process")


@pytest.fixture(params=EXECUTORS)
def executor(request):
    return request.param


def pipeline_of(*tasks):
    pipeline = Pipeline("p")
    for each in tasks:
        pipeline.add_task(each)
    return pipeline


def raising(error):
    def action():
        raise error

    return action


def through_pickle(run):
    return pickle.loads(pickle.dumps(run))


@pytest.mark.parametrize(
    "error", [TaskCancelled("by itself"), ValueError("bad"), SystemExit(3), KeyError(), AssertionError()]
)
def test_a_failed_run_always_has_failures(executor, error):
    run = pipeline_of(Task("t", raising(error)), Task("good", int)).run(executor=executor)
    assert run.status == "FAILED"
    assert list(run.failures) == ["t"]
    said = str(run.failures["t"])
    assert said == str(run.tasks["t"].error) == str(run.tasks["t"].attempts[-1].error)
    with pytest.raises(RunFailedError) as caught:
        run.raise_for_failure()
    assert [str(each) for each in caught.value.exceptions] == [said]
    assert list(through_pickle(run).failures) == ["t"]


def test_a_task_that_skipped_itself_has_no_error(executor):
    run = pipeline_of(Task("t", raising(SkipTask("not today")))).run(executor=executor)
    assert (run.status, run.tasks["t"].status, run.tasks["t"].error, run.failures) == ("SUCCESS", "SKIPPED", None, {})
    assert run.tasks["t"].attempts[0].error is None


AT_THE_END = """
import builtins
from dremioframe.orchestration import OrchestrationError, Pipeline, Task
def fails():
    raise ValueError("late")
class Reader:
    def __init__(self, run):
        self.run = run
    def __del__(self):
        try:
            print(self.run.failures["fails"], "|", type(self.run.tasks["fails"].error.__cause__).__name__)
            print(self.run["local"])
        except BaseException as error:
            print(isinstance(error, OrchestrationError))
run = Pipeline("p").add_task(Task("fails", fails)).add_task(Task("local", lambda: Reader)).run(executor="process")
builtins.kept = Reader(run)
"""


def test_a_run_that_is_read_while_the_interpreter_ends_raises_no_bare_import_error():
    done = subprocess.run([sys.executable, "-c", AT_THE_END], check=True, capture_output=True, text=True, timeout=60)
    said, value = done.stdout.splitlines()
    assert said.startswith("task 'fails', attempt 1: ValueError: late | ")
    assert said.endswith(("| RemoteError", "| ValueError"))
    assert value == "True" or "Reader" in value


def test_attempts_are_a_list(executor):
    run = pipeline_of(Task("t", int)).run(executor=executor)
    assert isinstance(run.tasks["t"].attempts, list)


def test_visualize_takes_a_path(tmp_path):
    run = pipeline_of(Task("t", int)).run()
    assert (tmp_path / "p.mermaid").write_text("") == 0
    assert run.visualize(tmp_path / "p.mermaid") == (tmp_path / "p.mermaid").read_text()


# --- pickling ---------------------------------------------------------------------------------------------------------


def test_a_run_pickles_with_values_that_plain_pickle_refuses(executor):
    class Local:
        def __init__(self, x):
            self.x = x

    factor = 3
    run = pipeline_of(
        Task("function", lambda: lambda x: x * factor), Task("object", lambda: [Local(4)]), Task("class", lambda: Local)
    ).run(executor=executor)
    copy = through_pickle(run)
    assert copy["function"](2) == 6
    assert copy["object"][0].x == 4
    assert type(copy["object"][0]) is Local is copy["class"]
    assert copy["object"] is copy["object"]


def test_what_values_share_they_share_in_the_copy():
    shared = [1]
    copy = through_pickle(pipeline_of(Task("a", lambda: shared), Task("b", lambda: {"it": shared})).run())
    assert copy["a"] is copy["b"]["it"]


def test_a_run_with_locals_pickles_for_another_process(tmp_path):
    script = """
import pickle, sys
from dremioframe.orchestration import Pipeline, Task
class Own:
    x = 5
run = Pipeline("p").add_task(Task("own", Own)).add_task(Task("twice", lambda: lambda x: 2 * x)).run()
with open(sys.argv[1], "wb") as file:
    pickle.dump(run, file)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], check=True)
    run = pickle.loads((tmp_path / "run").read_bytes())
    assert (run["own"].x, run["twice"](4)) == (5, 8)


def test_arrays_and_tables_pickle_with_the_run(executor):
    numpy, pandas = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    run = pipeline_of(
        Task("array", lambda: numpy.arange(100_000)),
        Task("table", lambda: pandas.DataFrame({"x": [1, 2]})),
        Task("frame", lambda: polars.DataFrame({"x": [1, 2]})),
    ).run(executor=executor)
    copy = through_pickle(run)
    assert int(copy["array"].sum()) == 4_999_950_000
    copy["array"][0] = 7
    assert copy["table"].x.tolist() == copy["frame"]["x"].to_list() == [1, 2]


def test_a_value_that_cannot_be_pickled_is_named():
    run = pipeline_of(Task("fine", int), Task("guilty", lambda: {"rows": [1, threading.Lock()]})).run()
    with pytest.raises(PayloadError, match=r"'guilty'.*lock") as caught:
        pickle.dumps(run)
    assert (caught.value.task, caught.value.stage) == ("guilty", "result_pickle")
    assert caught.value.path == "result['rows'][1]"


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_a_run_whose_values_contain_it_says_that_it_cannot_be_pickled(executor):
    run = pipeline_of(Task("fine", int), Task("box", list)).run(executor=executor)
    run["box"].append(run)
    for _ in range(2):
        with pytest.raises(PayloadError, match=r"result of task 'box' cannot be: .*its results contain it"):
            pickle.dumps(run)
    taking = pipeline_of(Task("t", lambda context: context["before"]))
    assert taking.run(executor="process", context={"before": run}).status == "FAILED"


@pytest.mark.parametrize("unpicklable", [[], [threading.Lock()]])
def test_an_error_in_a_value_of_its_own_run_is_pickled_with_the_run_but_not_for_ever(unpicklable):
    pipeline = pipeline_of(Task("box", lambda: [*unpicklable]), Task("bad", lambda: 1 / 0), Task("fine", lambda: 5))
    with pytest.raises(RunFailedError) as caught:
        pipeline.run(raise_on_failure=True)
    run = caught.value.run
    run["box"].append(caught.value)
    copy = through_pickle(caught.value).run
    assert copy["fine"] == 5
    if unpicklable:
        assert "box" not in copy._values
    else:
        (error,) = copy["box"]
        assert isinstance(error, RunFailedError)
        assert error.run.run_id == run.run_id
        assert error.run.status == "FAILED"
        with pytest.raises(PayloadError, match="not pickled with the run"):
            error.run["fine"]


def test_a_lost_attempt_survives_pickling():
    def die():
        import os

        os._exit(3)

    copy = through_pickle(pipeline_of(Task("t", die, retries=1, retry_delay=0.0)).run(executor="process"))
    assert isinstance(copy.failures["t"], WorkerLostError)
    assert [attempt.status for attempt in copy.tasks["t"].attempts] == ["LOST", "LOST"]


def test_a_run_without_values_is_a_run():
    run = pipeline_of(Task("t", raising(ValueError("bad")))).run()
    assert run
    assert len(run) == 0


def test_a_rule_that_does_not_wait_says_so_beside_how_its_upstreams_ended():
    first = Task("first", int)
    first.set_downstream(early := Task("early", int, trigger_rule="always"))
    first.set_downstream(late := Task("late", int, trigger_rule="all_done"))
    run = pipeline_of(first, early, late).run()
    assert "  rule always over: first SUCCESS (in the end; the rule does not wait for that)\n" in run.explain("early")
    assert "  rule all_done over: first SUCCESS\n" in run.explain("late")


def test_each_error_is_made_alone_when_it_is_read(monkeypatch):
    """There may be thousands, and a loop over their names reads one of them at a time."""
    run = pipeline_of(*(Task(f"t{n}", raising(ValueError(n))) for n in range(5)), Task("good", int)).run()
    made = []
    to_error = Failure.to_error
    monkeypatch.setattr(Failure, "to_error", lambda self, *a, **k: made.append(1) or to_error(self, *a, **k))
    assert [name for name in run.failures if name in run.failures] == [f"t{n}" for n in range(5)]
    assert (len(run.failures), made) == (5, [])
    assert "t3" in str(run.failures["t3"])
    assert made == [1]
    with pytest.raises(KeyError):
        run.failures["good"]
    assert {name: str(error) for name, error in pickle.loads(pickle.dumps(run.failures)).items()} == {
        name: str(error) for name, error in run.failures.items()
    }
    assert "ValueError" in repr(run.failures)
