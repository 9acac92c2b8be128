"""What user code does to its worker, as the user of a pipeline sees it. Fault ids U6 to U8, U10, U15, U25 to U28, U32.

More of section U stands beside the parts that keep the promise, most of it in ``tests/pool`` and ``tests/payload``.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task, TaskError, WorkerLostError

LIMIT_S = 20


def pipeline_of(*tasks: Task) -> Pipeline:
    pipeline = Pipeline("p")
    for each in tasks:
        pipeline.add_task(each)
    return pipeline


def fails_in_its_worker(error: BaseException) -> None:
    """``error``, raised by a task, is that task's failure; the same worker runs the next one."""

    def bad() -> None:
        raise error

    before, failing = Task("before", os.getpid), Task("bad", bad)
    after = Task("after", os.getpid, trigger_rule="all_done")
    before.set_downstream(failing).set_downstream(after)
    run = pipeline_of(before, failing, after).run(executor="process", max_workers=1, timeout=LIMIT_S)
    assert run.status == "FAILED"
    failure = run.failures["bad"]
    assert type(failure) is TaskError
    assert type(failure.__cause__) is type(error)
    assert failure.__cause__.args == error.args
    assert run["before"] == run["after"]


class Own(BaseException):
    pass


@pytest.mark.parametrize("error", [SystemExit(0), SystemExit("text"), Own("x")], ids=repr)
def test_u6_an_exit_fails_its_task_and_ends_nothing(error: BaseException) -> None:
    fails_in_its_worker(error)


def test_u7_a_keyboard_interrupt_of_the_tasks_own_is_no_ctrl_c() -> None:
    fails_in_its_worker(KeyboardInterrupt())


@pytest.mark.parametrize("error", [GeneratorExit(), StopIteration(5), asyncio.CancelledError("x")], ids=repr)
def test_u8_what_means_something_to_generators_and_loops_is_a_failure(error: BaseException) -> None:
    fails_in_its_worker(error)


@pytest.mark.parametrize("code", [0, 99])
def test_u10_a_worker_that_exits_without_an_outcome_is_lost(code: int) -> None:
    quits, other = Task("quits", os._exit, (code,)), Task("other", int)
    run = pipeline_of(quits, other).run(executor="process", max_workers=1, timeout=LIMIT_S)
    failure = run.failures["quits"]
    assert isinstance(failure, WorkerLostError)
    assert failure.exit_code == code
    assert f"exited with code {code}" in str(failure)
    assert len(run.tasks["quits"].attempts) == 1
    assert run["other"] == 0


def test_u15_a_task_that_would_hang_the_end_of_its_process_delays_nobody(tmp_path: Any) -> None:
    """A thread that Python would join, and a hook that Python would call: the worker ends without asking either."""
    marker = tmp_path / "the hook was called"

    def hook() -> None:
        marker.touch()
        signal.pause()

    def linger() -> int:
        atexit.register(hook)
        threading.Thread(target=signal.sigwait, args=({signal.SIGUSR1},), daemon=False).start()
        return os.getpid()

    first, second = Task("first", linger), Task("second", os.getpid)
    first.set_downstream(second)
    with ProcessExecutor(max_workers=1, kill_grace_s=60) as executor:
        run = pipeline_of(first, second).run(executor=executor, timeout=LIMIT_S)
        assert run["first"] != run["second"]
        with pytest.raises(ProcessLookupError):
            os.kill(run["first"], 0)
    assert not marker.exists()


def deep_in_c() -> None:
    """Each level is one of C's, too, and its stack ends before such a limit does."""
    sys.setrecursionlimit(10**9)

    class Endless:
        def __repr__(self) -> str:
            return repr([self])

    repr(Endless())


def fill_the_address_space() -> None:
    """To the last few bytes: the worker has nothing left to tell of it by until this has come to its end."""
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (40 << 20), resource.getrlimit(resource.RLIMIT_AS)[1]))
    held, size = [], 1 << 20
    while True:
        try:
            held.append(bytearray(size))
        except MemoryError:
            if size < 64:
                raise
            size //= 2


def many_small_objects() -> None:
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (40 << 20), used + (40 << 20)))
    held = []
    while True:
        held.append(list(range(1000)))


@pytest.mark.parametrize(
    ("action", "cause"),
    [
        pytest.param(deep_in_c, RecursionError, id="u26"),
        pytest.param(fill_the_address_space, MemoryError, id="u27-full"),
        pytest.param(many_small_objects, MemoryError, id="u27-small"),
    ],
)
def test_u26_u27_what_may_cost_the_worker_costs_the_one_attempt(action: Any, cause: type) -> None:
    failing = Task("failing", action)
    after = [Task(f"after{n}", sys.getrecursionlimit, trigger_rule="all_done") for n in range(3)]
    for each in after:
        failing.set_downstream(each)
    run = pipeline_of(failing, *after).run(executor="process", max_workers=1, timeout=LIMIT_S)
    failures = dict(run.failures)
    failure = failures.pop("failing")
    assert not failures
    assert len(run.tasks["failing"].attempts) == 1
    assert {run[each.name] for each in after} == {1000}
    if isinstance(failure, WorkerLostError):
        assert failure.signal in {signal.SIGSEGV, signal.SIGABRT, None}
    else:
        assert cause.__name__ in str(failure)  # its cause may be a stand-in: there is no room to pickle it


def test_u28_a_worker_is_replaced_between_tasks_after_so_many() -> None:
    tasks = [Task(f"t{n}", os.getpid) for n in range(9)]
    with ProcessExecutor(max_workers=1, max_tasks_per_worker=3) as executor:
        run = pipeline_of(*tasks).run(executor=executor, timeout=LIMIT_S)
    pids = list(run.values())
    assert len(pids) == 9
    assert all(pids.count(pid) == 3 for pid in pids)
    assert all(len(record.attempts) == 1 for record in run.tasks.values())


def test_u32_a_replaced_function_harms_no_later_task() -> None:
    """In a program of its own: of a module that workers import they would have all imports before the first task."""
    program = Path(__file__).with_name("replacing.py")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=10 * LIMIT_S, check=False)
    assert (done.returncode, done.stdout) == (0, "nothing was harmed\n"), done.stderr[-4000:]
