"""What a call leaves in its worker's process does not reach the next call. Fault ids U20 to U27, U32."""

from __future__ import annotations

import os
import signal

import pytest
from pool_client import PID, same_worker
from pool_waiting import alive

from dremioframe.orchestration.pool.events import CallEnded

LIMIT_S = 20.0


@pytest.mark.parametrize(
    "source",
    [
        "import sys, io; sys.stdout = sys.stderr = io.StringIO()",
        "import sys; sys.stdout.close(); sys.stderr.close()",
        "import sys; sys.stdout = sys.stderr = None",
        "import sys; del sys.stdout",
        "import os; os.close(1); os.close(2)",
        "import os; null = os.open('/dev/null', os.O_RDWR); os.dup2(null, 1); os.dup2(null, 2)",
        "import sys\nclass Bad:\n    closed = False\n    def flush(self): raise RuntimeError\nsys.stdout = Bad()",
    ],
)
def test_u20_standard_streams(capfd, client, source):
    pid = int(client.run(PID))  # here, not in a fixture: the zygote takes the descriptors that capfd has put in place
    client.run(source)
    assert client.run("import sys; print('on stdout'); print('on stderr', file=sys.stderr); out = b'x'") == b"x"
    assert same_worker(client, pid)
    client.lease.close()
    client.pool.close()
    captured = capfd.readouterr()
    assert "on stdout" in captured.out
    assert "on stderr" in captured.err


def test_output_is_flushed_with_the_call(capfd, client):
    client.run("print('flushed', end='')")
    assert capfd.readouterr().out == "flushed"


def test_u22_stdin_is_empty_and_the_users_own_stays_unread(make_pool, connect):
    """The user's program has a line waiting on its standard input; workers inherit that descriptor if they may."""
    reading, writing = os.pipe()
    before = os.dup(0)
    os.dup2(reading, 0)
    try:
        os.write(writing, b"for the user\n")
        os.close(writing)
        client = connect(make_pool())
        assert client.run("import os, sys; out = repr((sys.stdin.read(), os.read(0, 9))).encode()") == b"('', b'')"
        assert os.read(0, 100) == b"for the user\n"
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(reading)


@pytest.mark.parametrize(
    ("change", "look"),
    [
        ("import os; os.chdir('/proc')", "import os; out = os.getcwd().encode()"),
        ("import os; os.umask(0)", "import os; u = os.umask(0); os.umask(u); out = oct(u).encode()"),
        ("import os; os.environ['NEW'] = '1'", "import os; out = repr(os.environ.get('NEW')).encode()"),
        ("import os; del os.environ['PATH']", "import os; out = repr(os.environ.get('PATH')).encode()"),
        ("import os; os.environ['PATH'] = '/x'", "import os; out = repr(os.environ.get('PATH')).encode()"),
        ("import os; os.environb[b'NEW'] = b'1'", "import os; out = repr(os.environ.get('NEW')).encode()"),
        ("import os; os.environ.clear()", "import os; out = repr(sorted(os.environ)).encode()"),
        ("import os; os.environ = {}", "import os; out = repr(sorted(os.environ)).encode()"),
        (
            "import os; os.environ['NEW'] = '1'",
            "import subprocess; out = subprocess.check_output(['env']).split(b'_=')[0]",
        ),
        ("import sys; sys.settrace(lambda *_: None)", "import sys; out = str(sys.gettrace()).encode()"),
        ("import sys; sys.setprofile(lambda *_: None)", "import sys; out = str(sys.getprofile()).encode()"),
    ],
)
def test_u23_process_state_is_put_back(client, pid, change, look):
    is_put_back(client, pid, change, look)


@pytest.mark.parametrize(
    ("change", "look"),
    [
        (
            "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})",
            "import signal; out = repr(signal.pthread_sigmask(signal.SIG_BLOCK, ())).encode()",
        ),
        (
            "import signal\nfor s in signal.valid_signals() - {9, 19}: signal.signal(s, lambda *_: None)",
            "import signal; out = repr([str(signal.getsignal(s))[:30] for s in signal.valid_signals()]).encode()",
        ),
        (
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
            "import signal; out = repr(str(signal.getsignal(15))[:30]).encode()",
        ),
    ],
)
def test_u24_signal_handling_is_put_back(client, pid, change, look):
    is_put_back(client, pid, change, look)


def is_put_back(client, pid, change, look):
    before = client.run(look)
    client.run(change)
    assert client.run(look) == before
    assert same_worker(client, pid)


@pytest.mark.parametrize("timer", ["ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"])
def test_u24_an_alarm_of_one_call_never_hits_the_next(client, pid, timer):
    client.run(f"import signal; signal.setitimer(signal.{timer}, 0.02)")
    busy = "import time; end = time.monotonic() + 0.1\nwhile time.monotonic() < end: pass\nout = b'alive'"
    assert client.run(busy) == b"alive"
    assert same_worker(client, pid)


def test_u23_a_working_directory_that_is_gone(client, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    assert client.run(f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); out = b'x'") == b"x"
    assert client.run("import os; out = os.getcwd().encode()") == os.getcwd().encode()


def test_a_runner_may_change_directory_and_environment_for_good(client):
    client.run("import os; os.chdir('/proc'); os.environ['RUN'] = 'yes'; ports.rebase()")
    client.run("import os; os.chdir('/'); os.environ['RUN'] = 'no'")
    assert client.run("import os; out = (os.getcwd() + os.environ['RUN']).encode()") == b"/procyes"


def test_u25_a_worker_whose_threads_grew_is_replaced_after_the_call(client, pid):
    event = client.end(
        client.submit("import threading, time; threading.Thread(target=time.sleep, args=(600,)).start(); out = b'kept'")
    )
    assert isinstance(event, CallEnded)
    assert bytes(event.payload) == b"kept"
    assert event.pid == pid
    assert not same_worker(client, pid)
    assert not alive(pid)


def test_u25_calls_that_waited_behind_it_are_not_lost(make_pool, connect):
    client = connect(make_pool())
    for _ in range(20):
        client.run("pass")
    calls = [
        client.submit("import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()")
        for _ in range(5)
    ]
    client.until(lambda: len(client.ended) >= 25)
    assert all(isinstance(client.end(call_id), CallEnded) for call_id in calls)


def test_u25_threads_that_ended_are_no_reason(client, pid):
    client.run("import threading; t = threading.Thread(target=print); t.start(); t.join()")
    assert same_worker(client, pid)


def test_u26_deep_recursion(client, pid):
    event = client.end(client.submit("def f(): f()\nf()"))
    assert event.status == 1
    assert b"RecursionError" in bytes(event.payload)
    assert same_worker(client, pid)


def test_u26_the_recursion_limit_is_put_back(client, pid):
    look = "import sys; out = str(sys.getrecursionlimit()).encode()"
    is_put_back(client, pid, "import sys; sys.setrecursionlimit(77777)", look)


def test_u27_memory_error(client, pid):
    event = client.end(client.submit("x = bytearray(1 << 60)"))
    assert b"MemoryError" in bytes(event.payload)
    assert same_worker(client, pid)


def test_u32_monkey_patched_standard_library(client, pid):
    source = """
        import os, time, sys, pickle, signal, threading, resource
        def broken(*args, **kwargs): raise RuntimeError("patched")
        for module, names in ((os, "write getpid umask getcwd chdir dup2 fstat _exit close"),
                              (time, "monotonic monotonic_ns time"),
                              (sys, "exit getrecursionlimit setrecursionlimit"), (pickle, "dumps loads"),
                              (signal, "signal getsignal setitimer pthread_sigmask"), (threading, "active_count Lock"),
                              (resource, "getrusage")):
            for name in names.split():
                setattr(module, name, broken)
        out = b"patched"
    """
    assert client.run(source) == b"patched"
    assert client.run("out = b'still working'") == b"still working"
    event = client.end(client.submit("raise SystemExit"))
    assert event.pid == pid


def test_u7_sigint_sent_to_a_worker_is_disregarded(client, pid):
    os.kill(pid, signal.SIGINT)
    assert same_worker(client, pid)


def test_programs_that_a_task_starts_have_ordinary_signal_handling(client):
    source = """
        import subprocess
        out = subprocess.check_output(["cat", "/proc/self/status"])
    """
    masks = [line.split() for line in client.run(source).decode().splitlines() if line.startswith("Sig")]
    blocked, ignored, caught = (int(mask, 16) for name, mask in masks if name in ("SigBlk:", "SigIgn:", "SigCgt:"))
    glibcs_own = 0b11 << 31  # 32 and 33, which no program can set
    assert (blocked, ignored & ~glibcs_own, caught) == (0, 0, 0)


def test_max_calls_per_worker(make_pool, connect):
    client = connect(make_pool(max_calls_per_worker=3))
    pids = [client.run(PID) for _ in range(9)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3]


def test_r7_max_calls_per_worker_with_a_backlog(make_pool, connect):
    client = connect(make_pool(size=2, max_calls_per_worker=5))
    calls = [client.submit(PID) for _ in range(200)]
    client.until(lambda: len(client.ended) == 200)
    pids = [bytes(client.end(call_id).payload) for call_id in calls]
    assert max(pids.count(pid) for pid in set(pids)) == 5
    assert len(set(pids)) >= 40


def test_random_numbers_differ_between_workers(make_pool, connect):
    client = connect(make_pool(size=2, preload=("numpy.random", "random")))
    source = """
        import numpy, random
        ports.request(f"{numpy.random.random()} {random.random()}".encode())
        while not ports.request(b""): pass
    """
    released = []
    client.lease._desk._on_request = lambda call_id, body: (client.heard.append(body), b"go" if released else b"")[1]
    calls = [client.submit(source) for _ in range(2)]
    client.until(lambda: len({body for body in client.heard if body}) == 2)
    released.append(True)
    for call_id in calls:
        client.end(call_id)
    first, second = ({*body.split()} for body in {body for body in client.heard if body})
    assert not first & second
