"""Beginnings and ends of pools and leases, several leases at once, coordinators that die. O17 to O30, R14 to R20."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import warnings

import pytest
from conftest import Client
from pool_waiting import alive, eventually, gone

from dremioframe.orchestration.errors import ExecutorClosedError
from dremioframe.orchestration.pool.process_pool import PoolOptions, ProcessPool
from dremioframe.orchestration.pool.supervisor import CallEnded, CallLost

PID = "import os; out = str(os.getpid()).encode()"

# ------------------------------------------------------------------------------------------------------------ closing


def test_nothing_is_started_before_it_is_needed(make_pool, connect):
    pool = make_pool()
    connect(pool)
    assert pool._capacity.zygote is None


def test_a12_use_after_close(make_pool, connect):
    pool = make_pool()
    pool.close()
    pool.close()
    with pytest.raises(ExecutorClosedError):
        connect(pool)
    with pytest.raises(ExecutorClosedError):
        pool.start()


def test_r8_a_pool_closed_while_a_lease_waits(make_pool, connect):
    pool = make_pool()
    client = connect(pool)
    client.start("import time; time.sleep(600)")
    pids = [worker.pid for worker in client.workers]
    threading.Timer(0.1, pool.close).start()
    with pytest.raises(ExecutorClosedError):
        client.until(lambda: False)
    client.lease.close()
    assert not any(alive(pid) for pid in pids)


def test_closing_a_lease_ends_its_calls_and_keeps_idle_workers_warm(make_pool, connect):
    pool = make_pool(size=2)
    first = connect(pool)
    idle = first.run(PID)
    calls = [first.start("import time; time.sleep(600)") for _ in range(2)]
    pids = [worker.pid for worker in first.workers]
    assert calls
    first.lease.close()
    first.lease.close()
    assert not any(alive(pid) for pid in pids)
    second = connect(pool)
    assert second.run(PID) != idle
    warm = second.run(PID)
    second.lease.close()
    assert connect(pool).run(PID) == warm


def test_a_lease_closed_before_its_first_worker_is_up(make_pool, connect):
    pool = make_pool()
    client = connect(pool)
    client.submit("pass")
    client.lease.close()
    assert connect(pool).run("out = b'fine'") == b"fine"


def test_r17_a_pool_dropped_without_close_ends_its_workers_and_warns():
    pool = ProcessPool(PoolOptions(size=1, runner="pool_runner:make_runner"))
    client = Client(pool)
    pid = int(client.run(PID))
    client.lease.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool, client
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert gone(pid)


def test_close_of_a_zygote_that_is_stopped(make_pool, connect, monkeypatch):
    from dremioframe.orchestration.pool import zygote_client

    monkeypatch.setattr(zygote_client, "_END_LIMIT_S", 0.2)
    pool = make_pool()
    client = connect(pool)
    pid = int(client.run(PID))
    client.lease.close()
    os.kill(pool._capacity.zygote.pid, signal.SIGSTOP)
    pool.close()
    assert gone(pid)


def test_a_zygote_that_is_stopped_is_replaced_when_its_report_is_missed(make_pool, connect, monkeypatch):
    from dremioframe.orchestration.pool import lifecycle

    monkeypatch.setattr(lifecycle, "_REPORT_LIMIT_S", 0.2)
    client = connect(make_pool())
    call_id = client.start("import os, time; time.sleep(600)")
    pid = client.workers[0].pid
    os.kill(client.pool._capacity.zygote.pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    event = client.end(call_id)
    assert isinstance(event, CallLost)
    assert client.run("out = b'fine'") == b"fine"


def test_a_zygote_that_is_stopped_is_replaced_when_it_does_not_fork(make_pool, connect, monkeypatch):
    from dremioframe.orchestration.pool import lifecycle

    monkeypatch.setattr(lifecycle, "_FORK_LIMIT_S", 0.3)
    client = connect(make_pool(size=2))
    client.run("pass")
    os.kill(client.pool._capacity.zygote.pid, signal.SIGSTOP)
    first = client.submit("import time; time.sleep(0.05)")
    second = client.submit("out = b'second'")
    assert bytes(client.end(second).payload) == b"second"
    assert isinstance(client.end(first), CallEnded)


def test_a_long_preload_is_not_taken_for_a_zygote_that_does_not_fork(make_pool, connect, monkeypatch, tmp_path):
    from dremioframe.orchestration.pool import lifecycle

    (tmp_path / "half_second.py").write_text("import time\ntime.sleep(0.5)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(lifecycle, "_FORK_LIMIT_S", 0.05)
    client = connect(make_pool(preload=("half_second",)))
    assert client.run("out = b'fine'") == b"fine"
    assert client.returned == []


# --------------------------------------------------------------------------------------------------------------- waking


def test_wake_from_another_thread(client):
    client.run("pass")
    threading.Timer(0.05, client.lease.wake).start()
    assert client.lease.wait(30) == []


def test_wake_before_wait_is_not_lost(client):
    client.lease.wake()
    began = time.monotonic()
    assert client.lease.wait(30) == []
    assert time.monotonic() - began < 10


def test_r14_many_wakes_do_not_block(client):
    for _ in range(100_000):
        client.lease.wake()
    assert client.lease.wait(30) == []


def test_wake_from_a_signal_handler(client):
    client.run("pass")
    before = signal.signal(signal.SIGUSR1, lambda *_: client.lease.wake())
    try:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert client.lease.wait(30) == []
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_wait_keeps_to_its_time(client):
    began = time.monotonic()
    assert client.lease.wait(0.05) == []
    assert 0.05 <= time.monotonic() - began < 5
    assert client.lease.wait(0) == []


# ---------------------------------------------------------------------------------------------------------- many leases


def drive(pool, count, results, errors):
    try:
        client = Client(pool)
        try:
            calls = [client.submit(f"out = b'{n}'") for n in range(count)]
            client.until(lambda: len(client.ended) == count)
            results.append([bytes(client.end(call_id).payload) for call_id in calls])
        finally:
            client.lease.close()
    except BaseException as error:
        errors.append(error)


@pytest.mark.parametrize(("size", "leases"), [(1, 4), (2, 2), (2, 5), (4, 3)])
def test_a2_several_leases_in_several_threads(make_pool, size, leases):
    pool = make_pool(size=size)
    results, errors = [], []
    threads = [threading.Thread(target=drive, args=(pool, 100, results, errors)) for _ in range(leases)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert results == [[str(n).encode() for n in range(100)]] * leases
    assert len(pool._capacity._owners) <= size


def test_fair_shares(make_pool, connect):
    """A lease that came second gets its half as soon as calls of the first end."""
    pool = make_pool(size=2)
    first = connect(pool)
    held = [first.start("import time; time.sleep(0.1)") for _ in range(2)]
    assert len(first.workers) == 2
    second = connect(pool)
    call_id = second.submit("out = b'second'")
    stop = threading.Event()

    def keep_first_busy():
        while not stop.is_set():
            if not first.ready:
                first.submit("import time; time.sleep(0.01)")
            first.turn(0.05)

    thread = threading.Thread(target=keep_first_busy)
    thread.start()
    try:
        assert bytes(second.end(call_id).payload) == b"second"
        assert len(second.workers) == 1
    finally:
        stop.set()
        thread.join()
    for call_id in held:
        assert isinstance(first.end(call_id), CallEnded)


def test_more_leases_than_workers_take_turns(make_pool, connect):
    """The only worker belongs to a lease that always has work; the other gets it all the same."""
    pool = make_pool(size=1)
    stop = threading.Event()
    greedy = connect(pool)
    greedy.run("pass")

    def never_idle():
        while not stop.is_set():
            while len(greedy.ready) < 50:
                greedy.submit("pass")
            greedy.turn(0.05)

    thread = threading.Thread(target=never_idle)
    thread.start()
    try:
        modest = connect(pool)
        for n in range(5):
            assert modest.run(f"out = b'{n}'") == str(n).encode()
    finally:
        stop.set()
        thread.join()


def test_idle_workers_of_one_lease_serve_another(make_pool, connect):
    pool = make_pool(size=2)
    idle = connect(pool)
    calls = [idle.submit("import time; time.sleep(0.05)") for _ in range(2)]
    for call_id in calls:
        idle.end(call_id)
    assert len(idle.workers) == 2
    busy = connect(pool)
    call_id = busy.submit("out = b'got one'")
    thread = threading.Thread(target=lambda: [idle.turn(0.05) for _ in range(20)])
    thread.start()
    try:
        assert bytes(busy.end(call_id).payload) == b"got one"
    finally:
        thread.join()


def test_max_workers_of_a_lease(make_pool, connect):
    client = connect(make_pool(size=4), max_workers=2)
    calls = [client.submit("import os, time; time.sleep(0.02); out = str(os.getpid()).encode()") for _ in range(12)]
    client.until(lambda: len(client.ended) == 12)
    assert len({bytes(client.end(call_id).payload) for call_id in calls}) == 2


# ---------------------------------------------------------------------------------------------- the coordinator's death

BUSY = """
client = Client(pool)
for _ in range(2):
    client.submit('''
import os, subprocess, time
child = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE)
grandchild = child.stdout.readline().strip().decode()
daemon_ready, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    os.write(tell, b"%d" % os.getpid())
    while True: time.sleep(600)
daemon = os.read(daemon_ready, 100).decode()
ports.request(f"{os.getpid()} {child.pid} {grandchild} {daemon}".encode())
time.sleep(600)
''')
tell(client.hear())
tell(client.hear())
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_o20_a_coordinator_that_dies_leaves_no_process_behind(script, signum):
    program = script(BUSY + "wait()")
    pids = [int(pid) for pid in program.hear() + program.hear()]
    zygote = program.hear_zygote()
    assert all(alive(pid) for pid in pids)
    program.kill(signum)
    assert all(gone(pid) for pid in [*pids, zygote])


def test_o20_also_when_a_forked_child_of_it_holds_its_channels(script):
    """The fork happens in C, so Python's at-fork handlers do not close anything: there is no EOF, only the pidfd."""
    program = script(
        BUSY + "import ctypes\nchild = ctypes.CDLL(None).fork()\nif child == 0: time.sleep(600)\ntell(child)\nwait()"
    )
    pids = [int(pid) for pid in program.hear() + program.hear()]
    [child] = program.hear()
    zygote = program.hear_zygote()
    program.kill()
    assert all(gone(pid) for pid in [*pids, zygote])
    os.kill(int(child), signal.SIGKILL)


def test_o20_coordinator_and_zygote_killed_together(script):
    program = script(BUSY + "wait()")
    trees = [program.hear(), program.hear()]
    zygote = program.hear_zygote()
    os.kill(zygote, signal.SIGKILL)
    program.kill()
    assert all(gone(int(worker)) for worker, *_ in trees)
    for _, *below in trees:  # children of tasks may survive this, as documented
        for pid in below:
            if alive(int(pid)):
                os.kill(int(pid), signal.SIGKILL)


def test_a_coordinator_that_becomes_another_program(script):
    program = script(BUSY + "tell('zygote', pool._capacity.zygote.pid)\nos.execvp('sleep', ['sleep', '600'])")
    pids = [int(pid) for pid in program.hear() + program.hear()]
    zygote = program.hear_zygote()
    assert all(gone(pid) for pid in [*pids, zygote])


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "raise ValueError('users error')"])
def test_interpreter_exit_closes_open_pools(script, ending):
    program = script(BUSY + ending)
    pids = [int(pid) for pid in program.hear() + program.hear()]
    status, errors = program.finish()
    assert status == {"": 0, "sys.exit(3)": 3}.get(ending, 1)
    assert ("users error" in errors) == ("users" in ending)
    assert "Exception ignored" not in errors
    assert all(gone(pid) for pid in pids)


# ----------------------------------------------------------------------------------------------------- fork by the user


def in_child(function):
    """Run this in a forked child of this process; gives what it returned as text."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, str(function()).encode())
        except BaseException as error:
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as answer:
        text = answer.read().decode()
    os.waitpid(pid, 0)
    return text


def test_o30_a_forked_child_has_no_descriptor_of_the_pool_and_cannot_use_it(make_pool, connect):
    before = set(os.listdir("/proc/self/fd"))
    pool = make_pool(size=2)
    client = connect(pool)
    client.run("pass")
    ours = {fd for fd in os.listdir("/proc/self/fd") if fd not in before and os.path.exists(f"/proc/self/fd/{fd}")}

    def look():
        left = [
            fd
            for fd in ours
            if os.path.exists(f"/proc/self/fd/{fd}") and "memfd" not in os.readlink(f"/proc/self/fd/{fd}")
        ]
        errors = []
        for use in (lambda: pool.lease(lambda *_: b""), lambda: client.lease.wait(1), pool.start):
            try:
                use()
            except ExecutorClosedError as error:
                errors.append(str(error))
        client.lease.close()
        pool.close()
        return left, len(errors)

    assert in_child(look) == "([], 3)"
    assert client.run("out = b'the parent goes on'") == b"the parent goes on"


def test_o30_a_forked_child_that_exits_ends_nothing(make_pool, connect):
    client = connect(make_pool())
    pid = client.run(PID)
    in_child(lambda: gc.collect())
    assert client.run(PID) == pid


def test_closing_is_not_held_up_by_a_forked_child(make_pool, connect):
    pool = make_pool()
    client = connect(pool)
    client.run("pass")
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(ready, 1)
        os._exit(0)
    began = time.monotonic()
    client.lease.close()
    pool.close()
    assert time.monotonic() - began < 2
    os.write(tell, b"x")
    os.waitpid(child, 0)
    os.close(ready)
    os.close(tell)


def test_r19_many_pools_one_after_the_other(make_pool, connect):
    for _ in range(10):
        pool = make_pool(size=2)
        client = connect(pool)
        assert client.run("out = b'x'") == b"x"
        client.lease.close()
        pool.close()


def test_r20_no_worker_escapes_a_close_that_comes_while_they_start(make_pool, connect):
    for delay_s in (0, 0.005, 0.02, 0.05):
        pool = make_pool(size=4)
        client = connect(pool)
        for _ in range(4):
            client.submit("import time; time.sleep(600)")
        zygote = pool._capacity.zygote.pid
        until = time.monotonic() + delay_s
        while time.monotonic() < until:
            client.turn(0.001)
        pool.close()
        assert gone(zygote)
        client.lease.close()


def test_helpers_of_this_file_see_ends():
    child = os.fork()
    if child == 0:
        os._exit(0)
    eventually(lambda: not alive(child))
    os.waitpid(child, 0)
    assert gone(child)
