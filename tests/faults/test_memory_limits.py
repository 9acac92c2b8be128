"""Attempts over their memory limit: ended with their whole tree, told in numbers, and nobody else is hit."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dremioframe.orchestration import (
    DefinitionError,
    MemoryLimitExceededError,
    Pipeline,
    ProcessExecutor,
    Task,
    ThreadExecutor,
)
from dremioframe.orchestration.pool import footprint

MIB = 1 << 20
#: Nobody waits so long if all is well; a run whose protection is switched off ends by it.
LONG_S = 90


def pipeline_of(*tasks):
    pipeline = Pipeline("p")
    for each in tasks:
        pipeline.add_task(each)
    return pipeline


def hog(mib):
    held = bytearray(mib * MIB)
    time.sleep(LONG_S)
    return len(held)


@pytest.fixture
def seen(monkeypatch, tmp_path):
    """A FIFO whose other end a task opens to wait until it, or its tree, was looked at this often."""

    def watch(function, times):
        path = str(tmp_path / "seen")
        os.mkfifo(path)
        real = getattr(footprint, function)
        left = [times]

        def look(pid):
            left[0] -= 1
            if left[0] == 0:
                threading.Thread(target=Path(path).write_text, args=("seen",)).start()
            return real(pid)

        monkeypatch.setattr(footprint, function, look)
        return path

    return watch


def wait_until_seen(path):
    with open(path) as fifo:
        return fifo.read()


def test_u28_an_attempt_over_its_limit_is_ended_and_nobody_else():
    others = [Task(f"o{i}", lambda i=i: i) for i in range(20)]
    with ProcessExecutor(2, kill_grace_s=0.2) as executor:
        run = pipeline_of(Task("hog", hog, (200,), memory_limit="64MiB"), *others).run(executor=executor)
        assert dict(run) == {f"o{i}": i for i in range(20)}
        error = run.failures["hog"]
        assert isinstance(error, MemoryLimitExceededError)
        assert isinstance(error, MemoryError)
        assert (error.task, error.attempt, error.limit_bytes) == ("hog", 1, 64 * MIB)
        assert 64 * MIB < error.used_bytes < 220 * MIB
        assert "in hog" in error.stack
        [attempt] = run.tasks["hog"].attempts
        [process] = error.processes
        assert process[0] == attempt.worker_pid
        assert attempt.status == "OUT_OF_MEMORY"
        assert attempt.peak_memory_bytes > 64 * MIB
        for words in ("task 'hog', attempt 1", "memory_limit is 64.0 MiB", f"{error.used_bytes / MIB:.1f} MiB"):
            assert words in str(error)
        assert "used more memory than its limit" in run.explain("hog")
        assert pipeline_of(Task("next", lambda: "ran")).run(executor=executor)["next"] == "ran", "the pool goes on"


@pytest.mark.parametrize(
    ("retry_on", "attempts"), [(Exception, 2), (MemoryError, 2), (MemoryLimitExceededError, 2), (ValueError, 1)]
)
def test_retry_on_is_asked_in_the_coordinator(retry_on, attempts):
    def action(context):
        return hog(150) if context.attempt == 1 else "small enough"

    task = Task("t", action, memory_limit=50 * MIB, retries=1, retry_delay=0.0, retry_on=retry_on)
    with ProcessExecutor(1, kill_grace_s=0.2) as executor:
        run = pipeline_of(task).run(executor=executor)
    assert len(run.tasks["t"].attempts) == attempts
    assert ("t" in run) == (attempts == 2)


CHILD = "import os, sys, time; held = bytearray(40 << 20); time.sleep(float(sys.argv[1]))"


def test_child_processes_count_and_go_too(tmp_path):
    path = tmp_path / "pids"

    def action():
        children = [subprocess.Popen([sys.executable, "-c", CHILD, str(LONG_S)]) for _ in range(3)]
        path.write_text(" ".join(str(child.pid) for child in children))
        for child in children:
            child.wait()

    with ProcessExecutor(1, kill_grace_s=0.2) as executor:
        run = pipeline_of(Task("t", action, memory_limit="80MiB")).run(executor=executor)
    error = run.failures["t"]
    assert isinstance(error, MemoryLimitExceededError)
    pids = [int(word) for word in path.read_text().split()]
    assert {pid for pid, _, _ in error.processes} <= {*pids, run.tasks["t"].attempts[0].worker_pid}
    assert len(error.processes) > 2
    for pid, name, size in error.processes:
        assert f"{name} (pid {pid}) {size / MIB:.1f} MiB" in str(error)
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")], "told when the whole tree is gone"


@pytest.fixture
def preloaded(tmp_path, monkeypatch):
    """A module of 150 MB, which the fork server has in memory, and each worker with it."""
    (tmp_path / "model_of_the_user.py").write_text("held = bytearray(b'x') * (150 << 20)\n")
    monkeypatch.syspath_prepend(tmp_path)
    return ["model_of_the_user"]


@pytest.mark.parametrize("forked", [False, True])
def test_what_children_take_counts_also_where_the_fork_server_shares_much(preloaded, forked):
    def action():
        if forked:
            pid = os.fork()
            if pid == 0:
                hog(100)
                os._exit(0)
            os.waitpid(pid, 0)
        else:
            subprocess.run([sys.executable, "-c", CHILD.replace("40", "100"), str(LONG_S)], check=False)

    with ProcessExecutor(2, kill_grace_s=0.2, preload=preloaded) as executor:
        run = pipeline_of(Task("t", action, memory_limit="64MiB")).run(executor=executor)
    error = run.failures["t"]
    assert isinstance(error, MemoryLimitExceededError)
    assert 64 * MIB < error.used_bytes < 140 * MIB


def test_u17_u28_a_daemon_counts_and_goes_too():
    def action():
        middle = os.fork()
        if middle == 0:
            os.setsid()
            if os.fork() == 0:
                hog(100)
            os._exit(0)
        os.waitpid(middle, 0)
        time.sleep(LONG_S)

    with ProcessExecutor(1, kill_grace_s=0.2) as executor:
        error = pipeline_of(Task("t", action, memory_limit="64MiB")).run(executor=executor).failures["t"]
    assert isinstance(error, MemoryLimitExceededError)
    [_, (daemon, *_)] = error.processes
    assert not os.path.exists(f"/proc/{daemon}")


@pytest.mark.parametrize("large_server", [False, True])
def test_what_forked_children_share_counts_once(preloaded, seen, large_server):
    path = seen("shared_out", 16)  # the worker and three children, twice a look: the first did not end it

    def action():
        held = bytearray(60 * MIB)
        children = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                time.sleep(LONG_S)
                os._exit(0)
            children.append(pid)
        answer = wait_until_seen(path)
        for pid in children:
            os.kill(pid, 9)
        return answer, len(held)

    with ProcessExecutor(2, preload=preloaded if large_server else ()) as executor:
        run = pipeline_of(Task("t", action, memory_limit="100MiB", timeout=LONG_S)).run(executor=executor)
    assert run["t"] == ("seen", 60 * MIB)


def test_a_child_that_has_its_parents_memory_still_adds_nothing(seen):
    """As every child that ``vfork`` has made, until it runs its program."""
    path = seen("shared_out", 8)

    def action():
        held = bytearray(60 * MIB)
        libc = ctypes.CDLL(None)
        stack = ctypes.create_string_buffer(1 << 16)
        top = ctypes.c_void_p((ctypes.addressof(stack) + len(stack)) & ~15)
        clone_vm = 0x100
        pid = libc.clone(libc.pause, top, clone_vm | signal.SIGCHLD, None)
        answer = wait_until_seen(path)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return answer, len(held)

    with ProcessExecutor(1) as executor:
        run = pipeline_of(Task("t", action, memory_limit="100MiB", timeout=LONG_S)).run(executor=executor)
    assert run["t"] == ("seen", 60 * MIB)


def fill_cache():
    sys.modules["dremioframe"].cache_of_the_user = bytearray(120 * MIB)  # stays when the task is over


@pytest.mark.parametrize("before", ["initializer", "earlier task"])
def test_what_the_worker_held_before_does_not_count(seen, before):
    path = seen("held_bytes", 3)
    limited = Task("limited", lambda: wait_until_seen(path), memory_limit="64MiB", timeout=LONG_S)
    over = Task("over", hog, (100,), memory_limit="64MiB")
    with ProcessExecutor(1, kill_grace_s=0.2, initializer=fill_cache if before == "initializer" else None) as executor:
        if before == "earlier task":
            pipeline_of(Task("earlier", fill_cache)).run(executor=executor)
        run = pipeline_of(limited).run(executor=executor)
        assert run["limited"] == "seen"
        error = pipeline_of(over).run(executor=executor).failures["over"]
        assert isinstance(error, MemoryLimitExceededError)
        assert error.used_bytes < 110 * MIB


def test_processes_that_an_earlier_task_has_left_do_not_count(seen):
    def leave():
        subprocess.Popen([sys.executable, "-c", CHILD, str(LONG_S)])

    path = seen("held_bytes", 3)
    with ProcessExecutor(1) as executor:
        pid = pipeline_of(Task("leave", leave), Task("pid", os.getpid)).run(executor=executor)["pid"]
        [[child]] = footprint.descendants([(pid, 0)]).values()
        end = time.monotonic() + LONG_S
        while footprint.shared_out(child)[1] < 40 * MIB:  # nobody tells when it has got that far
            assert time.monotonic() < end
            time.sleep(0.01)
        task = Task("t", lambda: wait_until_seen(path), memory_limit="16MiB", timeout=LONG_S)
        run = pipeline_of(task).run(executor=executor)
    assert run["t"] == "seen"


@pytest.mark.watchdog(60)
def test_who_takes_still_more_in_its_grace_has_none_left():
    def action():
        held = []
        end = time.monotonic() + LONG_S
        while time.monotonic() < end:
            try:
                while len(held) < 50:
                    held.append(bytearray(8 * MIB))
                    time.sleep(0.01)
                time.sleep(LONG_S)
            except BaseException:
                continue

    with ProcessExecutor(1, kill_grace_s=600) as executor:
        run = pipeline_of(Task("t", action, memory_limit="40MiB")).run(executor=executor)
    assert isinstance(run.failures["t"], MemoryLimitExceededError)


def test_nothing_is_looked_at_if_no_task_has_a_limit(monkeypatch):
    looks = []
    monkeypatch.setattr(footprint, "held_bytes", looks.append)
    with ProcessExecutor(2) as executor:
        run = pipeline_of(*(Task(f"t{i}", time.sleep, (0.02,)) for i in range(20))).run(executor=executor)
    assert run.status == "SUCCESS"
    assert looks == []


@pytest.mark.parametrize("executor", ["inline", "thread", ThreadExecutor(2), None])
def test_only_processes_can_be_limited(executor):
    ran = []
    tasks = [
        Task("first", ran.append, (1,)),
        *(Task(f"limited{i}", ran.append, (1,), memory_limit="1GB") for i in "ab"),
    ]
    with pytest.raises(DefinitionError, match=r"executor='process'.*'limiteda', 'limitedb'"):
        pipeline_of(*tasks).run(executor=executor)
    assert ran == []


def test_nonsense_assigned_later_is_refused_when_the_run_begins():
    task = Task("t", print, memory_limit="1GB")
    task.memory_limit = "much"
    with pytest.raises(DefinitionError, match="task 't': memory_limit must be"):
        pipeline_of(task).run(executor="process")
    task.memory_limit = "100MB"
    assert pipeline_of(task).run(executor="process").status == "SUCCESS"


def test_many_limited_and_unlimited_tasks_run_in_their_order():
    tasks = [Task(f"t{i}", lambda i=i: i, memory_limit="1GB" if i % 3 else None) for i in range(90)]
    with ProcessExecutor(1) as executor:
        run = pipeline_of(*tasks).run(executor=executor)
    assert dict(run) == {f"t{i}": i for i in range(90)}
    records = {i: run.tasks[f"t{i}"].attempts for i in range(90)}
    assert all(len(attempts) == 1 for attempts in records.values())
    assert sorted(records, key=lambda i: records[i][0].started_s) == list(range(90))


def test_the_peak_of_a_limited_attempt_is_its_own():
    def action():
        return len(bytearray(60 * MIB))

    with ProcessExecutor(1) as executor:
        first = pipeline_of(Task("t", action, memory_limit="1GB")).run(executor=executor).tasks["t"].attempts[0]
        second = pipeline_of(Task("t", len, ([],), memory_limit="1GB")).run(executor=executor).tasks["t"].attempts[0]
    assert first.peak_is_exact
    assert second.peak_is_exact
    assert second.peak_memory_bytes < first.peak_memory_bytes - 50 * MIB
