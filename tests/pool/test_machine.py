"""What the operating system is asked: the page, CPUs and memory, the interpreter's flags, kinship."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from dremioframe.orchestration.pool import cpu, kinship, status_page
from dremioframe.orchestration.pool.status_page import StatusPage


@pytest.fixture
def page():
    page = StatusPage.create("test")
    yield page
    page.close()


def test_what_a_worker_writes_the_coordinator_reads(page):
    workers = StatusPage.attach(os.dup(page.fd))
    workers.slots[status_page.STARTED_NS] = 2**63
    workers.slots[status_page.RUNNING] = 17
    assert page.running() == (17, 2**63)
    workers.close()


def test_what_the_coordinator_says_is_seen_by_the_worker(page):
    workers = StatusPage.attach(os.dup(page.fd))
    page.slots[status_page.ROOM] = 1 << 40
    assert workers.slots[status_page.ROOM] == 1 << 40
    workers.close()


def test_a_task_cannot_shrink_it_under_the_coordinator(page):
    for size in (0, 100, 1 << 30):
        with pytest.raises(PermissionError):
            os.ftruncate(page.fd, size)


def test_a_dump_is_read_and_bounded(page):
    workers = StatusPage.attach(os.dup(page.fd))
    assert page.dump() == ""
    os.write(workers.fd, b"Current thread \xff\n")
    assert page.dump() == "Current thread \\xff\n"
    with pytest.raises(PermissionError):
        [os.write(workers.fd, b"x" * 10_000) for _ in range(100)]
    assert len(page.dump()) < 1 << 20
    workers.close()


def test_usable_cpus():
    assert 1 <= cpu.usable_cpus() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 64),
        ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 2),
        ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/cpu.max": "300000 100000\n"}, 3),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
        (
            {
                "/proc/self/cgroup": "4:cpu,cpuacct:/x\n",
                "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "400000\n",
                "/sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "/proc/self/cgroup": "4:cpu:/x\n",
                "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1\n",
                "/sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
            },
            64,
        ),
        ({}, 64),
    ],
)
def test_cpu_quotas(monkeypatch, tmp_path, files, expected):
    for path, text in files.items():
        file = tmp_path / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    assert cpu.usable_cpus(str(tmp_path)) == expected


def test_thread_limits_of_the_user_win():
    limits = cpu.thread_limit_env(2, {"OMP_NUM_THREADS": "16"})
    assert "OMP_NUM_THREADS" not in limits
    assert limits["POLARS_MAX_THREADS"] == "2"


@pytest.mark.parametrize(
    "flags", [[], ["-I"], ["-E", "-s"], ["-B", "-OO"], ["-W", "error", "-X", "dev"], ["-X", "utf8=1"], ["-P"], ["-b"]]
)
def test_flags_survive_another_start(flags):
    look = "import sys; print(tuple(sys.flags), sorted(set(sys.warnoptions)), sorted(sys._xoptions))"
    source = f"""
        import subprocess, sys
        sys.path.insert(0, {os.getcwd()!r})
        from dremioframe.orchestration.pool import interpreter
        {look}
        sys.stdout.flush()
        subprocess.run([sys.executable, *interpreter.flags(), "-c", {look!r}])
    """
    output = subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(source)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert output[0] == output[1]


def test_children_and_sessions():
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.write(write, b"x")
        os.kill(os.getpid(), 19)
        os._exit(0)
    os.read(read, 1)
    assert kinship.read_stat(pid) == (os.getpid(), pid)
    assert kinship.session_members(frozenset((pid,))) == [pid]
    assert kinship.session_members(frozenset()) == []
    assert pid in kinship.children()
    os.kill(pid, 9)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert kinship.read_stat(pid) is None  # a zombie is not alive
    os.waitpid(pid, 0)
    os.close(read)
    os.close(write)


def test_children_without_the_kernels_list(monkeypatch):
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), 19)
        os._exit(0)
    real = open

    def without_list(path, *args, **kwargs):
        if str(path).endswith("/children"):
            raise FileNotFoundError(path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", without_list)
    assert pid in kinship.children()
    os.kill(pid, 9)
    os.waitpid(pid, 0)
