"""Running, starting, cancelling, running again: the life of a run, whichever executor runs the tasks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time

import pytest

from dremioframe.orchestration import DefinitionError, Pipeline, ProcessExecutor, Task, ThreadExecutor


def pipeline_of(*tasks, **options):
    pipeline = Pipeline("p", **options)
    for each in tasks:
        pipeline.add_task(each)
    return pipeline


def meet(mine, theirs):
    """Returns only when both sides are there at once: opening a fifo waits for the other end."""
    with open(mine, "w") as out:
        out.write("x")
    with open(theirs) as other:
        return other.read()


def meet_back(mine, theirs):
    with open(theirs) as other:
        said = other.read()
    with open(mine, "w") as out:
        out.write("y")
    return said


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_independent_tasks_run_at_once(executor, tmp_path):
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    os.mkfifo(one)
    os.mkfifo(two)
    tasks = Task("a", meet, (one, two), timeout=30), Task("b", meet_back, (two, one), timeout=30)
    run = pipeline_of(*tasks, max_workers=2).run(executor=executor)
    assert dict(run) == {"a": "y", "b": "x"}


def test_one_worker_follows_priority_then_critical_path(executor, tmp_path):
    log = tmp_path / "log"

    def write(name):
        with open(log, "a") as file:
            file.write(name + " ")

    tasks = {name: Task(name, write, (name,), priority=priority) for name, priority in
             [("plain", 0), ("head", 0), ("low", -1), ("high", 5), ("tail", 0)]}  # fmt: skip
    tasks["head"].set_downstream(tasks["tail"])
    pipeline_of(*tasks.values()).run(executor=executor, max_workers=1).raise_for_failure()
    assert log.read_text().split() == ["high", "head", "plain", "tail", "low"]


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_an_early_rule_does_not_wait(executor, tmp_path):
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)

    def fails():
        raise ValueError

    def waits_for_the_alert():
        with open(fifo) as file:
            return file.read()

    def alert(context):
        with open(fifo, "w") as file:
            file.write("alert")
        with pytest.raises(KeyError, match="had not finished"):
            context["slow"]
        return dict(context.upstream)

    bad, slow = Task("bad", fails), Task("slow", waits_for_the_alert, timeout=30)
    early = Task("alert", alert, trigger_rule="one_failed", timeout=30)
    bad.set_downstream(early)
    slow.set_downstream(early)
    run = pipeline_of(bad, slow, early).run(executor=executor, max_workers=2)
    assert run["slow"] == "alert"
    assert run["alert"] == {"bad": "FAILED", "slow": "PENDING"}


def test_a1_a_pipeline_runs_many_times(executor):
    pipeline = pipeline_of(Task("t", lambda context: context["n"]))
    runs = [pipeline.run(context={"n": n}, executor=executor) for n in range(3)]
    assert [run["t"] for run in runs] == [0, 1, 2]
    assert len({run.run_id for run in runs}) == 3
    assert pipeline.last_run is runs[-1]


def test_a2_runs_from_several_threads_are_apart(executor):
    pipeline = pipeline_of(Task("a", lambda context: context["n"]), Task("b", lambda: 1))
    results = {}

    def drive(n):
        results[n] = pipeline.run(context={"n": n}, executor=executor)["a"]

    threads = [threading.Thread(target=drive, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: n for n in range(4)}


def test_a3_inside_a_running_asyncio_loop(executor):
    async def main():
        return pipeline_of(Task("t", lambda: 1)).run(executor=executor)["t"]

    assert asyncio.run(main()) == 1


def test_a_warm_executor_keeps_its_workers():
    pipeline = pipeline_of(*(Task(f"t{i}", os.getpid) for i in range(8)))
    with ProcessExecutor(2) as executor:
        first = set(pipeline.run(executor=executor).values())
        second = set(pipeline.run(executor=executor).values())
        assert len(first | second) <= 2
        assert os.getpid() not in first
    with pytest.raises(Exception, match="closed"):
        pipeline.run(executor=executor)


def test_several_runs_at_once_share_a_pool():
    with ProcessExecutor(2) as executor:
        pipelines = [pipeline_of(*(Task(f"t{i}", lambda i=i: i) for i in range(30))) for _ in range(4)]
        handles = [pipeline.start(executor=executor) for pipeline in pipelines]
        for handle in handles:
            assert dict(handle.result(60)) == {f"t{i}": i for i in range(30)}


def test_start_and_result(executor):
    handle = pipeline_of(Task("t", lambda: 5)).start(executor=executor)
    assert handle.result(30)["t"] == 5
    assert handle.done
    assert handle.wait(0)


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_cancel(executor, tmp_path):
    started = tmp_path / "started"
    os.mkfifo(started)

    def announce_and_sleep():
        with open(started, "w") as file:
            file.write("x")
        time.sleep(60 if executor == "process" else 0.4)

    first, second = Task("first", announce_and_sleep), Task("second", lambda: 1)
    first.set_downstream(second)
    pipeline = pipeline_of(first, second)
    chosen = ThreadExecutor(kill_grace_s=0.05) if executor == "thread" else "process"
    handle = pipeline.start(executor=chosen)
    started.read_text()  # returns when the task has written
    assert first.status == "RUNNING"
    with pytest.raises(DefinitionError, match="frozen"):
        second.set_downstream(Task("third", lambda: 1))
    with pytest.raises(DefinitionError, match="running"):
        pipeline.add_task(Task("third", lambda: 1))
    handle.cancel()
    run = handle.result(30)
    assert run.status == "CANCELLED"
    assert (first.status, second.status) == ("CANCELLED", "CANCELLED")
    assert pipeline.last_run is run


A14 = """
import os, sys, time
from dremioframe.orchestration import InlineExecutor, Pipeline, ProcessExecutor, Task, ThreadExecutor
from dremioframe.orchestration.engine.handle import RunHandle
name, folder = sys.argv[1:]

def note(what):
    with open(f"{folder}/{what}", "w") as file:
        file.write(str(os.getpid()))

def stay():
    try:
        note("began")
        if name == "process":
            time.sleep(600)
        with open(f"{folder}/cancelled") as cancelled:
            cancelled.read()
    finally:
        note("finally")

def cancel(handle, real=RunHandle.cancel):
    real(handle)
    if name != "process":  # a thread cannot be interrupted: it stays until it hears of it
        note("cancelled")

RunHandle.cancel = cancel
first, second = Task("first", stay), Task("second", note, ("second",), trigger_rule="all_done")
first.set_downstream(second)
executor = {
    "inline": InlineExecutor,
    "thread": lambda: ThreadExecutor(1, kill_grace_s=60),
    "process": lambda: ProcessExecutor(1, kill_grace_s=60),
}[name]()
handle = Pipeline("p").add_task(first).add_task(second).start(executor=executor)
with open(f"{folder}/began") as began:
    began.read()
"""


def test_a14_the_end_of_the_interpreter_cancels_what_was_started(executor, tmp_path):
    for name in ("began", "cancelled"):
        os.mkfifo(tmp_path / name)
    command = [sys.executable, "-c", A14, executor, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    worker = (tmp_path / "finally").read_text()
    assert not os.path.exists(f"/proc/{worker}")
    assert not (tmp_path / "second").exists()


def test_ctrl_c_sets_last_run(executor):
    code = f"""
import os, signal, time
from dremioframe.orchestration import Pipeline, Task
def interrupt(pid):
    os.kill(pid, signal.SIGINT)
    time.sleep({0.5 if executor == "thread" else 600})  # a thread ends by itself
pipeline = Pipeline("p").add_task(Task("t", interrupt, (os.getpid(),))).add_task(Task("u", time.sleep, (0.1,)))
try:
    pipeline.run(executor={executor!r}, max_workers=1)
except KeyboardInterrupt:
    print(pipeline.last_run.status, [str(record.status) for record in pipeline.last_run.tasks.values()])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    expected = "CANCELLED ['SUCCESS', 'CANCELLED']" if executor == "thread" else "CANCELLED ['CANCELLED', 'CANCELLED']"
    assert done.stdout.strip() == expected, done.stderr


def test_executors_may_be_the_pipelines_own(executor):
    assert pipeline_of(Task("t", lambda: 1), executor=executor).run()["t"] == 1


@pytest.mark.parametrize("bad", ["proces", 7, ThreadExecutor, None])
def test_unknown_executors_are_refused(bad):
    with pytest.raises(DefinitionError, match="executor"):
        pipeline_of(Task("t", lambda: 1), executor=bad)
    if bad is not None:
        with pytest.raises(DefinitionError, match="executor"):
            pipeline_of(Task("t", lambda: 1)).run(executor=bad)


def test_options_assigned_during_a_run_do_not_reach_it(executor):
    def meddle():
        task.timeout = "nonsense"
        return 1

    task = Task("t", meddle, timeout=30)
    later = Task("u", lambda: 2, timeout=30)
    task.set_downstream(later)
    pipeline = pipeline_of(task, later)
    handle = pipeline.start(executor=executor)
    later.timeout = "nonsense"
    assert dict(handle.result(30)) == {"t": 1, "u": 2}
    with pytest.raises(DefinitionError, match="timeout"):
        pipeline.run(executor=executor)


def test_thread_timeout_is_retried_only_when_the_thread_has_ended():
    slow = Task("slow", time.sleep, (0.2,), timeout=0.05, retries=1, retry_delay=0.4)
    stuck = Task("stuck", time.sleep, (0.6,), timeout=0.05, retries=1, retry_delay=0.0)
    run = pipeline_of(slow, stuck).run(executor="thread", max_workers=2)
    assert [attempt.status for attempt in run.tasks["slow"].attempts] == ["TIMED_OUT", "TIMED_OUT"]
    assert [attempt.status for attempt in run.tasks["stuck"].attempts] == ["TIMED_OUT"]
    assert "still runs" in run.explain("stuck")
