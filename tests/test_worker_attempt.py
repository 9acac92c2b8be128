"""Attempts in workers: whatever goes wrong around the user's code fails that attempt and nothing else."""

from __future__ import annotations

import os
import sys
import threading
import time
from itertools import pairwise

import pytest

from dremioframe.orchestration import NestedRunError, PayloadError, Pipeline, ProcessExecutor, Task, TaskError
from dremioframe.orchestration.errors import OrchestrationError
from dremioframe.orchestration.executors import process_session


@pytest.fixture
def one_worker():
    with ProcessExecutor(max_workers=1) as executor:
        yield executor


def pipeline_of(*tasks):
    pipeline = Pipeline("p")
    for each in tasks:
        pipeline.add_task(each)
    return pipeline


def chained(*tasks):
    for one, other in pairwise(tasks):
        one.set_downstream(other)
    return pipeline_of(*tasks)


# --- a context is its call's ------------------------------------------------------------------------------------------


def keep_context(context):
    sys.kept_context = context
    return os.getpid()


@pytest.mark.parametrize(
    "use", [lambda context: context["secret"], lambda context: context.upstream, lambda context: context.errors]
)
def test_a_kept_context_is_not_answered_for_another_task(one_worker, use):
    def use_it():
        return os.getpid(), use(sys.kept_context)

    keeper = Task("keeper", keep_context)
    user = Task("user", use_it)
    # Of the run's own values only the keeper's context should speak; the user's task takes none.
    run = chained(keeper, user).run(context={"secret": 1}, executor=one_worker)
    error = run.failures["user"]
    assert isinstance(error, TaskError)
    assert isinstance(error.__cause__, OrchestrationError)
    assert "the context of task 'keeper' was used after its attempt had ended" in str(error)


def test_a_kept_context_is_not_answered_for_another_run_whose_calls_have_the_same_ids(one_worker, monkeypatch):
    monkeypatch.setattr(process_session, "_RUN_NUMBERS", 1)  # as they have every 256 runs
    kept = chained(Task("keeper", keep_context)).run(context={"secret": 1}, executor=one_worker)

    def use_it():
        return os.getpid(), sys.kept_context["secret"]

    run = chained(Task("user", use_it)).run(context={"secret": 2}, executor=one_worker)
    assert kept.status == "SUCCESS"
    assert "the context of task 'keeper' was used after its attempt had ended" in str(run.failures["user"])


def test_a_thread_that_outlives_its_task_gets_the_same(one_worker):
    def leave_a_thread(context):
        sys.go, sys.told = threading.Event(), []

        def ask():
            sys.go.wait(10)
            try:
                sys.told.append(context["secret"])
            except Exception as error:
                sys.told.append(str(error))

        sys.asker = threading.Thread(target=ask)
        # Started by the next task: a worker with threads left over is replaced.

    def let_it_ask():
        sys.asker.start()
        sys.go.set()
        sys.asker.join(10)
        return sys.told

    run = chained(Task("leaver", leave_a_thread), Task("next", let_it_ask)).run(
        context={"secret": 1}, executor=one_worker
    )
    assert "the context of task 'leaver' was used after its attempt had ended" in run["next"][0]


def test_what_was_read_in_time_can_be_read_later(one_worker):
    def keep(context):
        assert context["secret"] == 1
        sys.kept_context = context

    run = chained(Task("keeper", keep), Task("user", lambda: sys.kept_context["secret"])).run(
        context={"secret": 1}, executor=one_worker
    )
    assert run["user"] == 1


def test_states_are_asked_for_once(one_worker):
    def ask(context):
        ports = context._source._ports
        asked = []

        class Counting:
            running = ports.running

            def request(self, body, call_id=None):
                asked.append(bytes(body[:1]))
                return ports.request(body, call_id)

        context._source._ports = Counting()
        found = [name in context for name in ("a", "b", "ghost", "a")]
        context.upstream["a"] = "changed"
        return found, dict(context.upstream), asked

    run = chained(Task("a", int), Task("b", int), Task("asks", ask)).run(executor=one_worker)
    assert run["asks"] == ([True, True, False, True], {"b": "SUCCESS", "a": "SUCCESS"}, [b"S"])


# --- around the user's code -------------------------------------------------------------------------------------------


def test_a_directory_that_vanished_fails_nobody_who_does_not_need_it(tmp_path, monkeypatch, one_worker):
    assert chained(Task("pid", os.getpid)).run(executor=one_worker)["pid"]
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    from dremioframe.orchestration.executors import process_calls

    real = process_calls._run_facts

    def facts_then_gone(plan, env):
        facts = real(plan, env)
        os.chdir(tmp_path)
        gone.rmdir()
        return facts

    with monkeypatch.context() as patched:
        patched.setattr(process_calls, "_run_facts", facts_then_gone)
        run = pipeline_of(Task("t", int), Task("u", int)).run(executor=one_worker)
    assert dict(run) == {"t": 0, "u": 0}
    assert pipeline_of(Task("t", os.getcwd)).run(executor=one_worker)["t"] == str(tmp_path)


def test_u23_a_warm_worker_takes_over_the_time_zone_of_another_run(one_worker, monkeypatch):
    look = pipeline_of(Task("look", lambda: (os.getpid(), time.tzname[0], time.localtime(0).tm_hour)))
    runs = []
    try:
        for zone in ("ABC-9", "DEF+3"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            runs.append(look.run(executor=one_worker)["look"])
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [run[1:] for run in runs] == [("ABC", 9), ("DEF", 21)]
    assert runs[0][0] == runs[1][0]


def test_an_environment_that_cannot_be_set_fails_the_attempt():
    with ProcessExecutor(max_workers=1) as executor:
        assert pipeline_of(Task("t", int)).run(executor=executor)["t"] == 0
        executor._env["A=B"] = "x"  # too late for the fork server, which would stumble first
        run = pipeline_of(Task("t", int)).run(executor=executor)
    assert isinstance(run.failures["t"], PayloadError)
    assert "environment" in str(run.failures["t"])


@pytest.mark.parametrize(
    ("refused", "stage"), [(b"C", "code_unpickle"), (b"R", "code_unpickle"), (b"P", "args_unpickle")]
)
def test_a_refused_request_fails_the_attempt_and_not_the_worker(monkeypatch, one_worker, refused, stage):
    from dremioframe.orchestration.executors.process_calls import CallData

    pid = pipeline_of(Task("pid", os.getpid)).run(executor=one_worker)["pid"]
    real = CallData.answer

    def answer(self, task, attempt, request):
        if bytes(request[:1]) == refused:
            raise OSError("not today")
        return real(self, task, attempt, request)

    with monkeypatch.context() as patched:
        patched.setattr(CallData, "answer", answer)
        run = pipeline_of(Task("t", len, (b"x" * 100_000,))).run(executor=one_worker)
    error = run.failures["t"]
    assert isinstance(error, PayloadError)
    assert (error.task, error.stage) == ("t", stage)
    assert "not today" in str(error)
    assert pipeline_of(Task("pid", os.getpid)).run(executor=one_worker)["pid"] == pid


def test_a_refused_value_is_told_as_that(monkeypatch, one_worker):
    from dremioframe.orchestration.executors.process_calls import CallData

    real = CallData.answer

    def answer(self, task, attempt, request):
        if bytes(request[:1]) == b"V":
            raise OSError("not today")
        return real(self, task, attempt, request)

    monkeypatch.setattr(CallData, "answer", answer)
    run = pipeline_of(Task("t", lambda context: context["x"])).run(context={"x": 1}, executor=one_worker)
    error = run.failures["t"]
    assert isinstance(error, PayloadError)
    assert (error.stage, error.path) == ("context_unpickle", "x")
    assert "not today" in str(error)


@pytest.mark.parametrize("way", ["code", "args", "context"])
def test_a_module_that_runs_at_import_gets_the_bare_error(tmp_path, monkeypatch, one_worker, way):
    name = f"runs_at_import_{way}"
    (tmp_path / f"{name}.py").write_text(
        "import os\n"
        "from dremioframe.orchestration import Pipeline, Task\n"
        "class Thing: pass\n"
        "def action(): return 1\n"
        f"if os.getpid() != {os.getpid()}:\n"
        "    Pipeline('inner').add_task(Task('t', int)).run()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module = __import__(name)
    try:
        task = {
            "code": lambda: Task("t", module.action),
            "args": lambda: Task("t", type, (module.Thing(),)),
            "context": lambda: Task("t", lambda context: context["x"]),
        }[way]()
        values = {"x": module.Thing()} if way == "context" else None
        error = pipeline_of(task).run(context=values, executor=one_worker).failures["t"]
    finally:
        del sys.modules[name]
    assert type(error) is NestedRunError
    assert error.task == "t"
    assert "when it is imported" in str(error)
    assert str(error).startswith("pipeline 'inner'")
