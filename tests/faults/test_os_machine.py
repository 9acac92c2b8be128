"""What the machine does to a run: clocks, process ids, full disks, streams that end, other processes. O9 to O31."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

import dremioframe
from dremioframe.orchestration import Pipeline, Task
from dremioframe.orchestration.pool import status_page
from dremioframe.orchestration.pool.worker_handle import WorkerHandle

LIMIT_S = 20.0
HERE = Path(__file__).parent


def pipeline_of(*tasks: Task) -> Pipeline:
    pipeline = Pipeline("p")
    for task in tasks:
        pipeline.add_task(task)
    return pipeline


def run_program(body: str, *before: str, **options: object) -> subprocess.CompletedProcess[str]:
    """A user's program; ``before`` are the words of the program that starts it."""
    source = f"import os, sys, time\nfrom dremioframe.orchestration import Pipeline, ProcessExecutor, Task\n{body}"
    command = [*before, sys.executable, "-c", source]
    options = {"capture_output": True, "text": True, "timeout": 60, "check": False, **options}
    return subprocess.run(command, **options)  # type: ignore[call-overload,no-any-return]


def unshared(*kinds: str) -> tuple[str, ...]:
    """Words that start a program in namespaces of its own; skips the test where that is not allowed."""
    command = ("unshare", *kinds)
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip(f"this machine does not allow namespaces of one's own ({' '.join(kinds)})")
    return command


# ------------------------------------------------------------------------------------------------- processes and clocks


def test_o9_there_is_no_resource_tracker() -> None:
    """Of Python's multiprocessing, whose death leaks and whose life holds pipes open. In no process of a run."""
    answer = run_program("""
def has_tracker():
    module = sys.modules.get("multiprocessing.resource_tracker")
    return module is not None and module._resource_tracker._pid is not None
look = Task("look", lambda: ("multiprocessing" in sys.modules, has_tracker()))
run = Pipeline("p").add_task(look).run(executor="process")
print(*run["look"], has_tracker())
""")
    assert answer.stdout.split() == ["False", "False", "False"], answer.stderr


def test_o24_a_process_with_a_workers_old_number_is_spared() -> None:
    """The worker had ended before it was heard of; when its fork server died as well, somebody else had its number."""
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)  # as any shell, and any other worker
    worker = WorkerHandle.create(1)
    try:
        worker.page.slots[status_page.PID] = stranger.pid
        worker.find_process(frozenset((1, stranger.pid)))
        assert worker.pidfd < 0
    finally:
        worker.close()
        stranger.kill()
        stranger.wait()


def test_o24_the_coordinator_signals_through_pidfds_only() -> None:
    """``os.kill`` and ``os.killpg`` are for children that are not reaped, and for oneself."""
    package = Path(dremioframe.__file__).parent
    users = {
        str(path.relative_to(package / "orchestration"))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"kill", "killpg"} and _is_name(node.value, "os")
    }
    below = {"pool/zygote.py", "pool/sentry.py", "pool/kinship.py", "pool/preload.py"}  # never in the coordinator
    children = {"pool/zygote_client.py"}
    themselves = {"failpoints.py", "pool/undisturbed.py", "pool/worker.py"}
    assert users <= below | children | themselves


def test_o25_the_wall_clock_measures_nothing() -> None:
    """It is read for labels: a run's start, when a schedule's next run is due, lines of the log."""
    package = Path(dremioframe.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and _is_name(node.value, "time", "datetime", "date"):
                assert node.attr not in {"time", "time_ns", "CLOCK_REALTIME"} or path.name == "plain_sink.py", (
                    f"{path}:{node.lineno}"
                )
                if node.attr in {"now", "utcnow", "today"}:
                    assert path.name in {"launch.py", "cadence.py"}, f"{path}:{node.lineno}"


def _is_name(node: ast.expr, *names: str) -> bool:
    return isinstance(node, ast.Name) and node.id in names


def test_o25_a_wall_clock_that_jumps_by_a_day(tmp_path: Path) -> None:
    """In coordinator and workers, at every look; the machine's own clock is not ours to set."""
    (tmp_path / "jumping.py").write_text(
        "import time\nreal, jumps = time.time, []\n"
        "def jumping():\n    jumps.append(1)\n    return real() + 86400 * (-1) ** len(jumps)\n"
        "time.time = jumping\n"
    )
    answer = run_program(
        """
import jumping
def flaky(context):
    if context.attempt == 1: raise ValueError
def slow(): time.sleep(600)
tasks = [Task("flaky", flaky, retries=1, retry_delay=0.05), Task("slow", slow, timeout=0.3)]
tasks.append(Task("quick", int, timeout=60))
with ProcessExecutor(2, preload=["jumping"], kill_grace_s=0.1) as executor:
    pipeline = Pipeline("p")
    for task in tasks: pipeline.add_task(task)
    run = pipeline.run(executor=executor, timeout=60)
print(sorted(run), *run.failures, 0 <= run.duration_s < 30, jumping.jumps != [])
""",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.getcwd()}"},
    )
    assert answer.stdout.split() == ["['flaky',", "'quick']", "slow", "True", "True"], answer.stderr


PAUSED = """
def tell(name):
    with open(f"{sys.argv[1]}/{name}", "w") as told: told.write("x")
def hear(name):
    with open(f"{sys.argv[1]}/{name}") as heard: heard.readline()
def step(context):
    if context.attempt == 1: raise ValueError
    tell("began")
    hear("end")
step = Task("step", step, timeout=float(sys.argv[2]), retries=1, retry_delay=0)
beside, after = Task("beside", hear, ("beside",)), Task("after", tell, ("looked",))
beside.set_downstream(after)
run = Pipeline("p").add_task(step).add_task(beside).add_task(after).run(executor="process", max_workers=2)
print(run.status, *(attempt.status for attempt in run.tasks["step"].attempts))
"""
PAUSED_TIMEOUT_S = 2.5


def test_o23_o26_after_a_pause_a_call_is_judged_by_when_it_began(tmp_path: Path, arm: Any, gate: Any) -> None:
    """Ctrl-Z, a laptop's lid, a paused virtual machine: it lasts longer than the time-out of what had been sent.

    The second attempt has reached its worker then and not begun; it begins before the coordinator looks, and goes on
    until the coordinator has looked: until it has had a task run that waited for another to end after the pause.
    """
    fifos = {name: tmp_path / name for name in ("began", "end", "beside", "looked")}
    for fifo in fifos.values():
        os.mkfifo(fifo)
    arm(**{"worker.received": f"{gate.action}@2!{tmp_path / 'once'}"})
    source = f"import os, sys, time\nfrom dremioframe.orchestration import Pipeline, Task\n{PAUSED}"
    command = [sys.executable, "-c", source, str(tmp_path), str(PAUSED_TIMEOUT_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            gate.wait()
            sent = time.monotonic()  # or earlier
            program.send_signal(signal.SIGSTOP)
            assert os.WIFSTOPPED(os.waitpid(program.pid, os.WUNTRACED)[1])
            time.sleep(PAUSED_TIMEOUT_S + 0.1)  # the pause itself
            gate.open()
            assert fifos["began"].read_text() == "x"
            assert time.monotonic() - sent > PAUSED_TIMEOUT_S
            program.send_signal(signal.SIGCONT)
            fifos["beside"].write_text("x")
            assert fifos["looked"].read_text() == "x"
            end = os.open(fifos["end"], os.O_RDWR)  # it does not wait for a reader, who may have been killed wrongly
            os.write(end, b"x\n")
            assert program.stdout.read().split() == ["SUCCESS", "FAILED", "SUCCESS"]
            os.close(end)
        finally:
            program.kill()


def test_o28_a_coordinator_that_is_process_1() -> None:
    """In a container: nobody mistakes it for init and ends, and it reaps no child but its own."""
    answer = run_program(
        """
import signal, subprocess
assert os.getpid() == 1
mine = subprocess.Popen(["sh", "-c", "exit 7"])
def die(context):
    if context.attempt == 1: os.kill(os.getpid(), signal.SIGKILL)
    if context.attempt == 2: os.kill(os.getppid(), signal.SIGKILL); time.sleep(600)
    return context.attempt
with ProcessExecutor(2) as executor:
    run = Pipeline("p").add_task(Task("die", die, retries=2, retry_delay=0)).run(executor=executor)
print(run["die"], mine.wait(), open("/proc/self/task/1/children").read().split())
""",
        *unshared("--pid", "--fork", "--mount-proc"),
    )
    assert answer.stdout.split() == ["3", "7", "[]"], answer.stderr


# ------------------------------------------------------------------------------------------------- memory and disk full

LONG_RESULTS = """
import numpy
def make(n): return numpy.full(200_000, n)
def total(context): return sum(int(context[f"part{n}"].sum()) for n in range(4))
last = Task("total", total)
pipeline = Pipeline("p").add_task(last)
for n in range(4):
    part = Task(f"part{n}", make, (n,))
    part.set_downstream(last)
    pipeline.add_task(part)
"""


def test_o13_a_full_dev_shm_matters_to_nobody() -> None:
    """In a mount namespace whose /dev/shm takes 64 kB, as some containers' do, and is full."""
    words = unshared("--mount")
    fill = 'mount -t tmpfs -o size=64k none /dev/shm && cat /dev/zero >/dev/shm/full 2>/dev/null; exec "$@"'
    answer = run_program(
        f"{LONG_RESULTS}\nrun = pipeline.run(executor='process', max_workers=2)\n"
        "print(run['total'], os.statvfs('/dev/shm').f_bavail, os.listdir('/dev/shm'))",
        *words, "sh", "-c", fill, "sh",
    )  # fmt: skip
    assert answer.stdout.split() == ["1200000", "0", "['full']"], answer.stderr


def test_o15_a_full_disk_fails_the_attempts_whose_results_it_does_not_take(tmp_path: Path) -> None:
    """A real file system of 64 kB, in a mount namespace; there is room in memory for nothing at all."""
    words = unshared("--mount")
    mount = f'mount -t tmpfs -o size=64k none {tmp_path} && exec "$@"'
    answer = run_program(
        f"{LONG_RESULTS}\nwith ProcessExecutor(2, memory_budget=1e-9, spill_dir={str(tmp_path)!r}) as executor:\n"
        "    run = pipeline.run(executor=executor)\n"
        "    again = Pipeline('q').add_task(Task('small', int)).run(executor=executor)\n"
        "error = run.failures['part0']\n"
        "print(type(error).__name__, 'No space left' in str(error), len(run.failures), again['small'])",
        *words, "sh", "-c", mount, "sh",
    )  # fmt: skip
    assert answer.stdout.split() == ["PayloadError", "True", "4", "0"], answer.stderr


FAILING = """
def fail(): raise ValueError("on purpose")
pipeline = Pipeline("p").add_task(Task("fail", fail, retries=1, retry_delay=0)).add_task(Task("fine", int))
run = pipeline.run(executor="process", max_workers=1)
with open(sys.argv[1], "w") as file: file.write(f"{run.status} {dict(run)}")
os._exit(0)
"""


@pytest.mark.parametrize("kind", ["full disk", "nobody reads", "closed"])
def test_o15_o22_a_log_that_cannot_be_written_ends_no_run(kind: str, tmp_path: Path) -> None:
    """``program | head`` among them."""
    told = tmp_path / "told"
    words = {"full disk": "exec >/dev/full 2>&1; ", "nobody reads": "", "closed": "exec >&- 2>&-; "}[kind]
    source = f"import os, sys\nfrom dremioframe.orchestration import Pipeline, Task\n{FAILING}"
    command = ["sh", "-c", f'{words}exec "$@"', "sh", sys.executable, "-c", source, str(told)]
    read, write = os.pipe()
    os.close(read)  # what is written there is EPIPE
    program = subprocess.Popen(command, stdout=write, stderr=write)
    os.close(write)
    assert program.wait(60) == 0
    assert told.read_text() == "FAILED {'fine': 0}"


def test_o22_a_sink_of_the_users_that_raises_ends_no_run() -> None:
    def sink(message: str) -> None:
        raise BrokenPipeError(32, "nobody reads this")

    number = logger.add(sink, catch=False)
    try:
        run = pipeline_of(Task("fail", lambda: 1 / 0, retries=1, retry_delay=0), Task("fine", int)).run()
    finally:
        logger.remove(number)
    assert dict(run) == {"fine": 0}
    assert len(run.tasks["fail"].attempts) == 2


# -------------------------------------------------------------------------------------------------------------- signals


def test_o21_a_run_under_nohup_is_not_stopped_by_sighup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = pipeline_of(Task("hang_up", os.kill, (os.getpid(), signal.SIGHUP)), Task("after", int)).run()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert run.status == "SUCCESS"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_o19_the_users_own_handler_is_back_and_gets_the_signal(signum: int) -> None:
    got: list[tuple[int, bool]] = []

    def handler(number: int, _: object) -> None:
        got.append((number, pipeline.last_run is not None))

    pipeline = pipeline_of(Task("signals", _signal_and_wait, (os.getpid(), signum)))
    before = signal.signal(signum, handler)
    try:
        began = time.monotonic()
        run = pipeline.run(executor="process", max_workers=1)
        assert signal.getsignal(signum) is handler
    finally:
        signal.signal(signum, before)
    assert [number for number, _ in got] == [signum]
    assert run.status == "CANCELLED"
    assert time.monotonic() - began < LIMIT_S


def _signal_and_wait(pid: int, signum: int) -> None:
    os.kill(pid, signum)
    time.sleep(600)
