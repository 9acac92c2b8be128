"""What user code does to its worker, as the user of a pipeline sees it. O1, U6-U8, U10, U11, U15, U25-U28, U30, U32.

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
from typing import TYPE_CHECKING, Any

import pytest
from lost import check_lost, note_pid, noted_pids

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task, TaskError, WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Callable

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


def is_lost(tmp_path: Path, action: Callable[[], Any], cause: str) -> WorkerLostError:
    """``action`` ends its worker: its own attempt is lost, with all that can be said of it, and nobody else's."""
    mark = tmp_path / "pid"

    def ends() -> None:
        note_pid(mark)
        action()

    ending, other = Task("ends", ends), Task("other", int)
    run = pipeline_of(ending, other).run(executor="process", max_workers=1, timeout=LIMIT_S)
    assert run["other"] == 0
    [attempt] = run.tasks["ends"].attempts
    [pid] = noted_pids(mark)
    assert attempt.worker_pid == pid
    error: WorkerLostError = check_lost(run.failures["ends"], "ends", 1, pid, cause)
    return error


@pytest.mark.parametrize("code", [0, 99])
def test_u10_a_worker_that_exits_without_an_outcome_is_lost(tmp_path: Path, code: int) -> None:
    error = is_lost(tmp_path, lambda: os._exit(code), f"exited with code {code}")
    assert (error.exit_code, error.signal) == (code, None)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGILL", "SIGBUS"])
def test_u11_a_crash_is_told_with_its_signal_and_stack(tmp_path: Path, name: str) -> None:
    def crash() -> None:
        os.kill(os.getpid(), getattr(signal, name))

    error = is_lost(tmp_path, crash, f"was killed by {name}")
    assert (error.exit_code, error.signal) == (None, getattr(signal, name))
    assert "in crash" in error.stack


def test_o1_a_worker_that_is_killed_while_it_runs_is_told_as_such(tmp_path: Path) -> None:
    ready, done = tmp_path / "ready", tmp_path / "done"
    os.mkfifo(ready)
    os.mkfifo(done)

    def victim() -> None:
        ready.write_text(str(os.getpid()))
        done.read_text()

    with ProcessExecutor(max_workers=1) as executor:
        handle = pipeline_of(Task("victim", victim), Task("other", int)).start(executor=executor, timeout=LIMIT_S)
        pid = int(ready.read_text())
        os.kill(pid, signal.SIGKILL)
        run = handle.result()
    error = check_lost(run.failures["victim"], "victim", 1, pid, "was killed by SIGKILL")
    assert (error.exit_code, error.signal) == (None, signal.SIGKILL)
    assert run["other"] == 0


def test_u30_workers_that_kill_each_other_are_told_one_by_one(tmp_path: Path) -> None:
    """The victim waits for its end; its murderer succeeds."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)

    def victim() -> None:
        ready.write_text(str(os.getpid()))
        signal.pause()

    def murderer() -> int:
        pid = int(ready.read_text())
        os.kill(pid, signal.SIGKILL)
        return pid

    tasks = [Task("victim", victim, timeout=LIMIT_S), Task("murderer", murderer, timeout=LIMIT_S)]
    run = pipeline_of(*tasks).run(executor="process", max_workers=2, timeout=LIMIT_S)
    check_lost(run.failures["victim"], "victim", 1, run["murderer"], "was killed by SIGKILL")


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
