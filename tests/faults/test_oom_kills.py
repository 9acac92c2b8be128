"""The kernel's out-of-memory killer takes a worker: told as likely, where the kernel's counters speak for it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task, WorkerLostError
from dremioframe.orchestration.pool import memory

KILLED = "was killed by SIGKILL"
UNKNOWN = f"{KILLED} (usually the kernel's out-of-memory killer, or somebody's kill -9); "
VICTIM = (
    f"{KILLED} (perhaps by the kernel's out-of-memory killer, which has struck %s in this control group since the run "
    "began); "
)


def pipeline_of(*tasks):
    pipeline = Pipeline("p")
    for each in tasks:
        pipeline.add_task(each)
    return pipeline


class Counter:
    """The kernel's counter, in a file as the kernel writes it."""

    def __init__(self, root, version):
        self.root = str(root)
        member, self.name, self.text = {
            1: ("4:memory:/job\n", "memory/job/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"),
            2: ("0::/job\n", "job/memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill {}\noom_group_kill 0\n"),
        }[version]
        self.file = root / "sys/fs/cgroup" / self.name
        self.file.parent.mkdir(parents=True)
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text(member)
        self.count = 3
        self.file.write_text(self.text.format(3))

    def die_as_counted(self, kills):
        """A task that ends as a victim does: counted first, then killed."""
        file, text = str(self.file), self.text.format(self.count + kills)

        def action():
            Path(file).write_text(text)
            os.kill(os.getpid(), signal.SIGKILL)

        return action


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def counter(request, tmp_path, monkeypatch):
    counter, real = Counter(tmp_path, request.param), memory.oom_kills
    monkeypatch.setattr(memory, "oom_kills", lambda: real(counter.root))
    return counter


def test_o3_a_kill_that_the_kernel_has_counted_is_told_as_such(counter):
    run = pipeline_of(Task("t", counter.die_as_counted(2))).run(executor="process", max_workers=1)
    error = run.failures["t"]
    assert isinstance(error, WorkerLostError)
    assert (error.signal, error.exit_code) == (signal.SIGKILL, None)
    assert VICTIM % "2 times" in str(error)
    assert str(error).endswith("MiB of memory are usable now")


def test_o3_a_kill_that_nobody_has_counted_may_be_anybodys(counter):
    run = pipeline_of(Task("t", counter.die_as_counted(0))).run(executor="process", max_workers=1)
    assert UNKNOWN in str(run.failures["t"])
    assert str(run.failures["t"]).endswith("MiB of memory are usable now")


def test_o3_one_kill_explains_one_death(counter):
    tasks = [Task(name, counter.die_as_counted(1)) for name in ("first", "second")]
    with ProcessExecutor(1) as executor:
        run = pipeline_of(*tasks).run(executor=executor)
        again = pipeline_of(Task("t", counter.die_as_counted(1))).run(executor=executor)
    texts = [str(run.failures[name]) for name in ("first", "second")]
    assert [VICTIM % "once" in text for text in texts] == [True, False]
    assert UNKNOWN in texts[1]
    assert UNKNOWN in str(again.failures["t"]), "counted before this run began"


def test_o3_a_kill_of_somebody_elses_process_is_not_claimed_for_certain(counter):
    """The kernel counts it and does not say whom it has killed; a ``kill -9`` follows."""
    count, text = counter.file, counter.text.format(counter.count + 1)
    strangers = Task("strangers", lambda: count.write_text(text))
    killed = Task("killed", lambda: os.kill(os.getpid(), signal.SIGKILL))
    strangers.set_downstream(killed)
    run = pipeline_of(strangers, killed).run(executor="process", max_workers=1)
    assert f"{KILLED} (perhaps by " in str(run.failures["killed"])


def test_o3_other_ends_are_not_the_kernels(counter):
    def action():
        counter_file.write_text(text)
        os._exit(3)

    counter_file, text = counter.file, counter.text.format(9)
    run = pipeline_of(Task("t", action)).run(executor="process", max_workers=1)
    assert "memory" not in str(run.failures["t"])


SCRIPT = """
import sys
from dremioframe.orchestration import Pipeline, Task

def hog():
    return len(bytearray(600 << 20))

pipeline = Pipeline("p")
pipeline.add_task(Task("hog", hog)).add_task(Task("small", lambda: "fits"))
run = pipeline.run(executor="process", max_workers=1)
print(run["small"], "|", run.failures["hog"])
"""


@pytest.fixture
def limited_group():
    """A memory control group of our own below this process's, of 200 MiB; removed afterwards."""
    where = next(_own_groups(), None)
    if where is None:
        pytest.skip("no memory control group of ours to make another one below")
    group = f"{where}/dremioframe-test-{os.getpid()}"
    try:
        os.mkdir(group)
    except OSError as error:
        pytest.skip(f"a memory control group cannot be made here: {error}")
    try:
        name = next(
            (name for name in ("memory.max", "memory.limit_in_bytes") if os.path.exists(f"{group}/{name}")), None
        )
        if name is None:
            pytest.skip("control groups below ours have no memory controller")
        Path(group, name).write_text(str(200 << 20))
        swap = Path(group, "memory.swap.max")
        if swap.exists():
            swap.write_text("0")
        yield group
    finally:
        _remove(group)


def _own_groups():
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for top in ("/sys/fs/cgroup/memory",) if controllers == "memory" else ("/sys/fs/cgroup",) * (not controllers):
            if os.path.exists(f"{top}{path}/cgroup.procs"):
                yield f"{top}{path.rstrip('/')}"


def _remove(group):
    end = time.monotonic() + 20
    while True:
        try:
            return os.rmdir(group)
        except OSError as error:  # EBUSY until the last process in it has been reaped, and nobody tells when
            if error.errno != errno.EBUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)


@pytest.mark.watchdog(60)
def test_o3_a_real_out_of_memory_kill(limited_group):
    enter = f'echo $$ > "{limited_group}/cgroup.procs" && exec "$@"'
    environ = {**os.environ, "LOGURU_LEVEL": "CRITICAL"}
    done = subprocess.run(
        ["sh", "-c", enter, "sh", sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )
    if "cgroup.procs" in done.stderr:
        pytest.skip(f"nothing can be moved to a control group here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    said, _, error = done.stdout.strip().partition(" | ")
    assert said == "fits", "the coordinator and the pool live"
    assert "task 'hog', attempt 1" in error
    assert VICTIM % "once" in error
