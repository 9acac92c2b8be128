"""Time-outs that kill, workers that die, and a coordinator that is killed: nobody else is hit and nothing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "pool"))

import lethal
from lethal import DEATHS, STUCK, note_pid, pids, with_children
from pool_waiting import alive, eventually, ownerless

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task, TaskTimeoutError, WorkerLostError


def pipeline_of(*tasks):
    pipeline = Pipeline("p")
    for each in tasks:
        pipeline.add_task(each)
    return pipeline


@pytest.mark.parametrize("stuck", STUCK, ids=lambda action: action.__name__)
def test_u12_u13_u14_u16_u17_u31_whatever_it_does_it_is_gone_after_timeout_and_grace(stuck, tmp_path):
    path = str(tmp_path / "pids")
    tasks = [
        Task("stuck", stuck, (path,), timeout=2.0 if stuck is with_children else 1.0),
        *(Task(f"other{i}", time.sleep, (0.02,)) for i in range(40)),
        Task("after", str, ("ran",), trigger_rule="one_failed"),
    ]
    tasks[0].set_downstream(tasks[-1])
    with ProcessExecutor(2, kill_grace_s=0.1, preload=[lethal.__name__]) as executor:  # no time-out counts an import
        run = pipeline_of(*tasks).run(executor=executor)
        error = run.failures["stuck"]
        assert isinstance(error, TaskTimeoutError)
        assert stuck.__name__ in error.stack, error.stack
        assert run.tasks["stuck"].attempts[0].wall_s >= error.timeout_s
        assert list(run.failures) == ["stuck"], "nobody else is hit"
        assert run["after"] == "ran", "the pool goes on"
        assert pids(path)
        eventually(lambda: not any(map(alive, pids(path))))


def test_finally_blocks_run_in_the_grace_period(tmp_path):
    path = tmp_path / "said"

    def action():
        try:
            time.sleep(60)
        finally:
            with open(path, "a") as file:
                file.write("finally ")

    def on_kill():
        with open(path, "a") as file:
            file.write("on_kill ")

    task = Task("t", action, timeout=1.0, on_kill=on_kill)
    with ProcessExecutor(1, kill_grace_s=60.0, preload=[__name__]) as executor:  # no time-out counts an import
        run = pipeline_of(task).run(executor=executor)
    assert isinstance(run.failures["t"], TaskTimeoutError)
    assert path.read_text() == "on_kill finally "


@pytest.mark.parametrize("how", DEATHS)
def test_a_worker_that_dies_fails_its_own_attempt_only(how):
    action, exit_code, signum = DEATHS[how]
    others = [Task(f"o{i}", int, (i,)) for i in range(50)]
    run = pipeline_of(*others[:25], Task("dies", action), *others[25:]).run(executor="process", max_workers=2)
    error = run.failures["dies"]
    assert isinstance(error, WorkerLostError)
    assert (error.exit_code, error.signal) == (exit_code, signum)
    assert dict(run) == {f"o{i}": i for i in range(50)}
    assert len(run.tasks["dies"].attempts) == 1


def test_o2_a_worker_that_was_stopped_between_two_runs_costs_no_attempt():
    with ProcessExecutor(max_workers=1) as executor:
        pid = pipeline_of(Task("first", os.getpid)).run(executor=executor)["first"]
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        run = pipeline_of(Task("second", os.getpid, timeout=30)).run(executor=executor, timeout=20)
        assert run["second"] == pid
        assert [attempt.number for attempt in run.tasks["second"].attempts] == [1]


def test_retries_after_a_death_and_a_timeout_run_on_new_workers(tmp_path):
    path = str(tmp_path / "pids")

    def action(context):
        note_pid(path)
        if context.attempt == 1:
            os._exit(3)
        if context.attempt == 2:
            time.sleep(60)
        return context.attempt

    task = Task("t", action, retries=2, retry_delay=0.0, timeout=1.0)
    with ProcessExecutor(1, preload=[__name__]) as executor:
        run = pipeline_of(task).run(executor=executor)
    assert run["t"] == 3
    assert [attempt.status for attempt in run.tasks["t"].attempts] == ["LOST", "TIMED_OUT", "SUCCESS"]
    assert len(set(pids(path))) == 3


COORDINATOR = """
import os, subprocess, sys, time
from dremioframe.orchestration import Pipeline, Task

path = sys.argv[1]
child = "import os, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()}\\\\n'); time.sleep(1000)"

def action():
    open(path, "a").write(f"{os.getpid()}\\n")
    subprocess.Popen([sys.executable, "-c", child, path])
    subprocess.Popen([sys.executable, "-c", child, path], start_new_session=True)
    while True:
        try:
            time.sleep(1)
        except BaseException:
            continue

pipeline = Pipeline("p")
for i in range(2):
    pipeline.add_task(Task(f"t{i}", action))
pipeline.run(executor="process", max_workers=2)
"""


def test_coordinator_killed_leaves_no_process(tmp_path):
    path = tmp_path / "pids"
    path.touch()
    before = ownerless()
    coordinator = subprocess.Popen([sys.executable, "-c", COORDINATOR, path])
    eventually(lambda: len(pids(path)) == 6)
    family = psutil.Process(coordinator.pid).children(recursive=True)
    assert len(family) >= 6
    coordinator.kill()
    coordinator.wait()
    eventually(lambda: not any(alive(process.pid) for process in family))
    eventually(lambda: ownerless() <= before)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, -15), (signal.SIGHUP, -1)])
def test_coordinator_stopped_by_a_signal_leaves_no_process(tmp_path, signum, code):
    path = tmp_path / "pids"
    path.touch()
    coordinator = subprocess.Popen([sys.executable, "-c", COORDINATOR, path], stderr=subprocess.PIPE, text=True)
    eventually(lambda: len(pids(path)) == 6)
    family = psutil.Process(coordinator.pid).children(recursive=True)
    coordinator.send_signal(signum)
    _, said = coordinator.communicate(timeout=60)
    assert coordinator.returncode in (code, -signum), said
    assert ("KeyboardInterrupt" in said) == (signum == signal.SIGINT)
    eventually(lambda: not any(alive(process.pid) for process in family))


def test_two_signals_do_not_wait_for_the_grace(tmp_path):
    path = tmp_path / "pids"
    path.touch()
    code = COORDINATOR.replace('executor="process", max_workers=2', "executor=ProcessExecutor(2, kill_grace_s=600)")
    code = code.replace("Pipeline, Task", "Pipeline, ProcessExecutor, Task")
    code = code.replace(
        "        except BaseException:", "        except BaseException:\n            open(path + '.told', 'a')"
    )
    coordinator = subprocess.Popen([sys.executable, "-c", code, path], stderr=subprocess.PIPE, text=True)
    eventually(lambda: len(pids(path)) == 6)
    family = psutil.Process(coordinator.pid).children(recursive=True)
    coordinator.send_signal(signal.SIGINT)
    eventually(lambda: (tmp_path / "pids.told").exists())  # the first signal has reached a task, which ignores it
    coordinator.send_signal(signal.SIGINT)
    _, said = coordinator.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    eventually(lambda: not any(alive(process.pid) for process in family))
