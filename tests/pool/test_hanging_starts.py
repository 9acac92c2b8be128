"""Starts that never end: they are given up after a time, told with the stack they were in, and bounded like others."""

from __future__ import annotations

import os
import signal

import pytest
from pool_waiting import eventually, gone

from dremioframe.orchestration.errors import WorkerStartError
from dremioframe.orchestration.payload import references
from dremioframe.orchestration.pool import boot, kinship, lifecycle, nursery, zygote_client


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(boot, "START_LIMIT_S", 2.0)


def fails_to_start(client):
    """Submit one call and wait for the start error; the call itself is returned, every time."""
    with pytest.raises(WorkerStartError) as caught:
        client.end(client.submit("pass"))
    assert client.ended == {}
    return caught.value


@pytest.mark.parametrize("hang", ["time.sleep(600)", "sum(range(10**12))", "os.kill(os.getpid(), signal.SIGSTOP)"])
def test_an_initializer_that_hangs(make_pool, connect, hang):
    """Also one that holds the interpreter's lock, and one that stops itself again and again."""

    def initializer():
        import os
        import time

        names = {"os": os, "signal": signal, "time": time}
        while True:
            exec(hang, names)

    error = fails_to_start(connect(make_pool(initializer=references.pack_code(initializer))))
    assert "a worker was not ready 2 s after it was forked" in str(error)
    assert "3 failed starts" in str(error)
    assert "in initializer" in error.boot_traceback


def test_an_initializer_that_hangs_once(make_pool, connect, tmp_path):
    flag = tmp_path / "flag"

    def initializer():
        if not flag.exists():
            flag.write_text(str(os.getpid()))
            __import__("time").sleep(600)

    client = connect(make_pool(initializer=references.pack_code(initializer)))
    assert client.run("out = b'second time lucky'") == b"second time lucky"
    assert gone(int(flag.read_text()))


def test_a_worker_that_hangs_while_it_starts_does_not_fail_a_run_that_has_others(make_pool, connect, tmp_path):
    """It is given up and another tried in its place, and nobody who has a worker is told."""
    flag = tmp_path / "flag"

    def initializer():
        if flag.exists():
            __import__("time").sleep(600)
        flag.touch()

    client = connect(make_pool(size=2, initializer=references.pack_code(initializer)))
    client.run("pass")
    calls = [client.submit("import time; time.sleep(0.05)") for _ in range(2)]
    client.until(lambda: any(worker.boot_error for worker in client.workers))
    given_up = next(worker.pid for worker in client.workers if worker.boot_error)
    calls += [client.submit("import time; time.sleep(0.05)") for _ in range(8)]
    client.until(lambda: all(call_id in client.ended for call_id in calls))
    client.until(lambda: gone(given_up, 0))


def test_a_preload_module_that_hangs(make_pool, connect, tmp_path, monkeypatch):
    (tmp_path / "endless_module.py").write_text("import time\ndef hang(): time.sleep(600)\nhang()\n")
    monkeypatch.syspath_prepend(tmp_path)
    pool = make_pool(preload=("json", "endless_module"))
    pool.start()
    zygote = pool._capacity.zygote.pid
    error = fails_to_start(connect(pool))
    assert "preload module 'endless_module' is not imported after 2 s" in str(error)
    assert "in hang" in error.boot_traceback
    assert gone(zygote)


@pytest.fixture
def little_patience(monkeypatch):
    monkeypatch.setattr(nursery, "_SAYING_S", 0.1)
    monkeypatch.setattr(lifecycle, "_FORK_LIMIT_S", 0.1)


def test_a_preload_module_that_hangs_with_the_interpreters_lock(
    make_pool, connect, tmp_path, monkeypatch, little_patience
):
    """The fork server cannot say so itself."""
    (tmp_path / "greedy_module.py").write_text("sum(range(10**12))\n")
    monkeypatch.syspath_prepend(tmp_path)
    error = fails_to_start(connect(make_pool(preload=("greedy_module",))))
    assert "3 failed starts" in str(error)
    assert "the fork server ended before any worker was ready: it did not answer" in str(error)


@pytest.mark.parametrize("continues", [True, False])
def test_a_fork_server_that_is_stopped_while_it_starts(make_pool, connect, little_patience, monkeypatch, continues):
    if not continues:
        monkeypatch.setattr(zygote_client.ZygoteClient, "resume", lambda self: None)
    with monkeypatch.context() as first_only:
        stopping = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)\n"
        first_only.setattr(zygote_client, "BOOT_CODE", stopping + zygote_client.BOOT_CODE)
        pool = make_pool()
        pool.start()
    zygote = pool._capacity.zygote.pid
    eventually(lambda: kinship.read_state(zygote) == b"T")
    assert connect(pool).run("out = b'fine'") == b"fine"
    assert (pool._capacity.zygote.pid == zygote) == continues
    assert continues or gone(zygote)
