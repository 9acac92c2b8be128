"""Workers, fork servers and threads that cannot start, or meet a signal then. O5, O6, O8, O11, O12, O14, O32."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task, WorkerLostError, WorkerStartError

if TYPE_CHECKING:
    from pathlib import Path

LIMIT_S = 15.0  # of a run that must not hang; on an idle machine each takes less than a second


def pipeline_of(*tasks: Task) -> Pipeline:
    pipeline = Pipeline("p")
    for task in tasks:
        pipeline.add_task(task)
    return pipeline


def test_o5_a_task_that_kills_every_worker_it_meets(tmp_path: Path) -> None:
    """Each death is an attempt of its own and of nobody else's, and the pool goes on."""
    starts = tmp_path / "starts"

    def poison() -> None:
        with open(starts, "a") as file:
            file.write("x")
        if starts.stat().st_size <= 6:
            os.kill(os.getpid(), signal.SIGKILL)

    others = [Task(f"o{n}", lambda n=n: n) for n in range(20)]
    tasks = [*others[:10], Task("poison", poison, retries=2, retry_delay=0), *others[10:]]
    with ProcessExecutor(max_workers=2) as executor:
        run = pipeline_of(*tasks).run(executor=executor, timeout=LIMIT_S)
        assert pipeline_of(Task("after", lambda: "fine")).run(executor=executor)["after"] == "fine"
    assert isinstance(run.failures["poison"], WorkerLostError)
    assert [attempt.status for attempt in run.tasks["poison"].attempts] == ["LOST"] * 3
    assert starts.stat().st_size == 3
    assert dict(run) == {f"o{n}": n for n in range(20)}


def test_o6_an_initializer_that_raises_ends_the_run_and_blames_no_task() -> None:
    def initializer() -> None:
        raise ValueError("no database here")

    pipeline = pipeline_of(Task("innocent", int))
    why = r"3 failed starts in a row.*ValueError: no database here"
    with (
        ProcessExecutor(max_workers=2, initializer=initializer) as executor,
        pytest.raises(WorkerStartError, match=why) as caught,
    ):
        pipeline.run(executor=executor, timeout=LIMIT_S)
    assert "in initializer" in caught.value.boot_traceback
    assert pipeline.last_run is caught.value.run
    assert pipeline.last_run.tasks["innocent"].status == "CANCELLED"
    assert not pipeline.last_run.tasks["innocent"].attempts


def test_o11_no_fork_is_to_be_had(arm: Any) -> None:
    """By failpoint: limits do not bind root."""
    arm(**{"zygote.fork": "fail:EAGAIN"})
    with pytest.raises(WorkerStartError, match="cannot fork a worker: Resource temporarily unavailable"):
        pipeline_of(Task("t", int)).run(executor="process", max_workers=2, timeout=8)


def test_o11_only_the_first_fork_is_to_be_had(arm: Any) -> None:
    arm(**{"zygote.fork": "fail:ENOMEM@2+"})
    tasks = [Task(f"t{n}", os.getpid) for n in range(30)]
    run = pipeline_of(*tasks).run(executor="process", max_workers=4, timeout=LIMIT_S)
    assert run.status == "SUCCESS"
    assert len(set(run.values())) == 1


@pytest.fixture
def no_thread_after() -> Any:
    """Let so many more threads start; the next ones get stacks that no machine has."""
    start, before = threading.Thread.start, threading.stack_size()
    left = [0]

    def limited(self: threading.Thread) -> None:
        if left[0] <= 0:
            threading.stack_size(1 << 46)
        left[0] -= 1
        try:
            start(self)
        finally:
            threading.stack_size(before)

    threading.Thread.start = limited  # type: ignore[method-assign]
    yield lambda count: left.__setitem__(0, count)
    threading.Thread.start = start  # type: ignore[method-assign]


def test_o12_no_thread_can_be_started(no_thread_after: Any) -> None:
    pipeline = pipeline_of(Task("t", int))
    with pytest.raises(WorkerStartError, match="no thread could be started"):
        pipeline.run(executor="thread", timeout=LIMIT_S)
    assert pipeline.last_run is not None
    assert pipeline.last_run.status == "CANCELLED"
    with pytest.raises(RuntimeError, match="thread"):
        pipeline.start(executor="thread")
    assert pipeline.run(executor="inline")["t"] == 0


def test_o12_with_fewer_threads_than_wanted_a_run_goes_on(no_thread_after: Any) -> None:
    no_thread_after(1)
    tasks = [Task(f"t{n}", threading.get_ident) for n in range(8)]
    run = pipeline_of(*tasks).run(executor="thread", max_workers=4, timeout=LIMIT_S)
    assert run.status == "SUCCESS"
    assert len(set(run.values())) == 1


#: What the filter below forbids, by machine: memfd_create, pidfd_open, prctl.
NUMBERS = {"x86_64": (319, 434, 157), "aarch64": (279, 434, 167)}

FORBIDDING = """
import ctypes, struct, sys
number, argument = int(sys.argv[1]), int(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
def op(code, jump_true, jump_false, value): return struct.pack("HBBI", code, jump_true, jump_false, value)
program = b"".join([
    op(0x20, 0, 0, 0), op(0x15, 0, 3, number),            # load the number of the call; another one is allowed
    op(0x20, 0, 0, 16), op(0x15, 0, 1, argument) if argument else op(0x05, 0, 0, 0),
    op(0x06, 0, 0, 0x00050000 | 38), op(0x06, 0, 0, 0x7FFF0000),  # ENOSYS; allow
])
code = ctypes.create_string_buffer(program, len(program))
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code)))
assert libc.prctl(38, 1, 0, 0, 0) == 0, ctypes.get_errno()
assert libc.prctl(22, 2, filter, 0, 0) == 0, ctypes.get_errno()
from dremioframe.orchestration import Pipeline, Task, WorkerStartError
pipeline = Pipeline("p").add_task(Task("t", int))
try:
    pipeline.run(executor="process", timeout=30)
except WorkerStartError as error:
    print("refused", error)
print(pipeline.run(executor="thread")["t"], pipeline.run(executor="inline")["t"])
"""


@pytest.mark.skipif(platform.machine() not in NUMBERS, reason="the numbers of system calls on this machine")
@pytest.mark.parametrize(("call", "argument"), [("memfd_create", 0), ("pidfd_open", 0), ("prctl", 36)])
def test_o14_a_system_call_that_is_missing_or_forbidden_is_told_at_once(call: str, argument: int) -> None:
    """As in old kernels and sandboxes: a seccomp filter says that there is no such call."""
    number = dict(zip(("memfd_create", "pidfd_open", "prctl"), NUMBERS[platform.machine()], strict=True))[call]
    program = [sys.executable, "-c", FORBIDDING, str(number), str(argument)]
    answer = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    refused, *others = answer.stdout.splitlines() or [answer.stderr]
    assert refused.startswith("refused"), answer.stderr
    assert "failed starts in a row" not in refused  # what may pass is tried again, for nine seconds
    assert "Function not implemented" in refused
    assert others == ["0 0"]


def test_o32_a_signal_between_fork_and_reset_runs_no_handler_of_the_parents(
    arm: Any, gate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newborn waits in its first line; the handler is that of a preloaded module."""
    (tmp_path / "with_a_handler.py").write_text(
        f"import os, signal\nsignal.signal(signal.SIGTERM, lambda *_: open({str(tmp_path / 'ran')!r}, 'a').close())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arm(**{"birth.begin": f"{gate.action}!{tmp_path / 'once'}"})
    with ProcessExecutor(max_workers=1, preload=["with_a_handler"]) as executor:
        handle = pipeline_of(Task("t", os.getpid)).start(executor=executor, timeout=LIMIT_S)
        newborn = gate.wait()
        os.kill(newborn, signal.SIGTERM)
        gate.open()
        run = handle.result()
    assert run["t"] != newborn
    assert not (tmp_path / "ran").exists()


def test_o32_signals_to_a_fork_server_that_forks_hit_neither_it_nor_its_child(
    arm: Any, gate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "with_a_usr1_handler.py").write_text(
        f"import os, signal\nsignal.signal(signal.SIGUSR1, lambda *_: open({str(tmp_path / 'ran')!r}, 'a').close())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def look() -> tuple[int, Any, set[int]]:
        return os.getppid(), signal.getsignal(signal.SIGUSR1), signal.pthread_sigmask(signal.SIG_BLOCK, ())

    arm(**{"zygote.fork": f"{gate.action}!{tmp_path / 'once'}"})
    with ProcessExecutor(max_workers=1, preload=["with_a_usr1_handler"]) as executor:
        handle = pipeline_of(Task("t", look)).start(executor=executor, timeout=LIMIT_S)
        server = gate.wait()
        os.kill(server, signal.SIGUSR1)
        os.kill(server, signal.SIGTERM)
        gate.open()
        run = handle.result()
    assert run["t"] == (server, signal.SIG_DFL, set())
    assert not (tmp_path / "ran").exists()


def test_o8_a_fork_server_that_cannot_start_says_why_and_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cannot_load.py").write_text(
        f"open({str(tmp_path / 'tries')!r}, 'a').write('x')\nraise OSError('libmagic.so: no such file')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    pipeline = pipeline_of(Task("t", int))
    began = time.monotonic()
    with (
        ProcessExecutor(max_workers=2, preload=["cannot_load"]) as executor,
        pytest.raises(WorkerStartError, match="'cannot_load' cannot be imported: OSError: libmagic"),
    ):
        pipeline.run(executor=executor, timeout=LIMIT_S)
    assert (tmp_path / "tries").read_text() == "x"
    assert time.monotonic() - began < LIMIT_S
