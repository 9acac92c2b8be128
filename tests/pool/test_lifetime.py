"""Beginnings and ends of pools and leases, and waking those who wait. R8, R14 to R20."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import warnings

import pytest
from pool_client import PID, Client
from pool_waiting import alive, eventually, gone

from dremioframe.orchestration.errors import ExecutorClosedError
from dremioframe.orchestration.pool import process_pool, zygote_client
from dremioframe.orchestration.pool.events import CallLost
from dremioframe.orchestration.pool.process_pool import PoolOptions, ProcessPool

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


def test_a12_use_in_a_forked_child(make_pool, connect):
    pool = make_pool()
    connect(pool).run(PID)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            connect(pool)
        except ExecutorClosedError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read) as said:
        assert "fork" in said.read()


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
    os.kill(pool._capacity.zygote.server_pid, signal.SIGSTOP)
    pool.close()
    assert gone(pid)


def test_o18_ctrl_c_while_a_pool_is_being_closed_is_heard_when_it_is_closed(make_pool, connect, monkeypatch):
    """The fork server is stopped, so closing takes a while; without that nothing of it would be left either."""
    from dremioframe.orchestration.pool import zygote_client

    monkeypatch.setattr(zygote_client, "_END_LIMIT_S", 0.3)
    monkeypatch.setattr(zygote_client.termination, "resume", lambda pidfd: None)
    pool = make_pool()
    client = connect(pool)
    pid = int(client.run(PID))
    client.lease.close()
    zygote = pool._capacity.zygote
    os.kill(zygote.server_pid, signal.SIGSTOP)
    interrupt = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()

    def close():
        pool.close()
        interrupt.join()

    with pytest.raises(KeyboardInterrupt):
        close()
    assert gone(pid)
    with pytest.raises(ChildProcessError):
        os.waitpid(zygote.pid, os.WNOHANG)  # it has been reaped


def test_a_pool_whose_close_was_interrupted_is_forgotten(make_pool, monkeypatch):
    pool = make_pool()
    monkeypatch.setattr(pool._capacity, "_wake_all", lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        pool.close()
    assert pool._capacity not in process_pool._open


def test_a_zygote_that_is_stopped_is_continued_when_its_report_is_missed(make_pool, connect, monkeypatch):
    from dremioframe.orchestration.pool import lifecycle

    monkeypatch.setattr(lifecycle, "_REPORT_LIMIT_S", 0.2)
    client = connect(make_pool())
    call_id = client.start("import os, time; time.sleep(600)")
    pid = client.workers[0].pid
    os.kill(client.pool._capacity.zygote.server_pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    event = client.end(call_id)
    assert isinstance(event, CallLost)
    assert client.run("out = b'fine'") == b"fine"


def test_a_zygote_that_stays_stopped_is_replaced_when_it_does_not_fork(make_pool, connect, monkeypatch):
    """The limit is short for the one that is stopped only: the next may take its time."""
    from dremioframe.orchestration.pool import lifecycle

    client = connect(make_pool(size=2))
    client.run("pass")
    stopped = client.pool._capacity.zygote
    os.kill(stopped.server_pid, signal.SIGSTOP)
    with monkeypatch.context() as patched:
        patched.setattr(lifecycle, "_FORK_LIMIT_S", 0.3)
        patched.setattr(zygote_client.ZygoteClient, "resume", lambda self: None)
        calls = [client.submit(f"out = b'{number}'") for number in range(2)]
        client.until(lambda: client.pool._capacity.zygote is not stopped)
    assert [bytes(client.end(call_id).payload) for call_id in calls] == [b"0", b"1"]


def test_a_long_preload_is_not_taken_for_a_zygote_that_does_not_fork(make_pool, connect, monkeypatch, tmp_path):
    from dremioframe.orchestration.pool import lifecycle

    (tmp_path / "half_second.py").write_text("import time\ntime.sleep(0.5)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(lifecycle, "_FORK_LIMIT_S", 0.4)
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
    assert client.lease.wait(600) == []


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
    assert time.monotonic() - began >= 0.05
    assert client.lease.wait(0) == []


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
