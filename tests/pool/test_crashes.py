"""Workers that die: exactly the call they ran is lost, and what did not start is returned. U10 to U30, O1, O7, O29."""

from __future__ import annotations

import os
import signal

import pytest
from pool_waiting import alive, gone

from dremioframe.orchestration.pool import termination
from dremioframe.orchestration.pool.events import CallEnded, CallLost, CallReturned


def lost(client, source):
    event = client.end(client.submit(source), resubmit=False)
    assert isinstance(event, CallLost), event
    return event


@pytest.mark.parametrize("code", [0, 1, 77, 255])
def test_u10_os_exit(client, code):
    event = lost(client, f"import os; os._exit({code})")
    assert (event.exit_code, event.signal) == (code, None)
    assert f"exited with code {code}" in event.description
    assert client.run("out = b'next'") == b"next"


@pytest.mark.parametrize(
    ("source", "signum"),
    [
        ("import ctypes; ctypes.string_at(0)", signal.SIGSEGV),
        ("import os; os.abort()", signal.SIGABRT),
        ("import os, signal; os.kill(os.getpid(), signal.SIGBUS)", signal.SIGBUS),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", signal.SIGILL),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", signal.SIGKILL),
    ],
)
def test_u11_signals(client, source, signum):
    event = lost(client, source)
    assert (event.exit_code, event.signal) == (None, signum)
    assert signal.Signals(signum).name in event.description
    if signum != signal.SIGKILL:
        assert "user_code" in event.stack or "<string>" in event.stack
    assert client.run("out = b'next'") == b"next"


def test_the_next_worker_is_ordered_before_anybody_asks_for_it(client):
    lost(client, "import os; os._exit(1)")
    (successor,) = client.workers
    assert not successor.calls
    assert client.run("import os; out = str(os.getpid()).encode()") == str(successor.pid).encode()


def test_u11_c_stack_overflow(client):
    """The C library's parser calls itself for each parenthesis; Python's own limits do not come into it."""
    event = lost(client, "import ctypes; ctypes.CDLL(None).regcomp(ctypes.create_string_buffer(4096), b'(' * 10**6, 1)")
    assert (event.exit_code, event.signal) == (None, signal.SIGSEGV)
    assert "<string>" in event.stack or "user_code" in event.stack
    assert client.run("out = b'next'") == b"next"


def test_o1_killed_while_idle_is_replaced_in_silence(client):
    pid = int(client.run("import os; out = str(os.getpid()).encode()"))
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    assert client.run("import os; out = str(os.getpid()).encode()") != str(pid).encode()


def test_o1_a_dead_idle_worker_of_a_warm_pool_is_found_by_the_next_lease(make_pool, connect):
    pool = make_pool()
    first = connect(pool)
    pid = int(first.run("import os; out = str(os.getpid()).encode()"))
    first.lease.close()
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    second = connect(pool)
    call_id = second.submit("import os; out = str(os.getpid()).encode()")
    assert int(bytes(second.end(call_id).payload)) != pid
    assert second.returned == []


def test_o1_killed_between_leases_and_a_call_already_sent(make_pool, connect):
    """The call was put into the inbox of a worker that was dead by then: it never started."""
    client = connect(make_pool())
    pid = int(client.run("import os; out = str(os.getpid()).encode()"))
    os.kill(pid, signal.SIGKILL)
    call_id = client.submit("out = b'moved'")
    assert bytes(client.end(call_id).payload) == b"moved"


def test_o1_killed_while_running_loses_one_call_and_returns_the_unread_ones(make_pool, connect):
    client = connect(make_pool())
    for _ in range(20):
        client.run("pass")  # opens the window
    running = client.submit("import time; time.sleep(60)")
    waiting = [client.submit("out = b'later'") for _ in range(3)]
    client.until(lambda: client.started_at(running) is not None)
    os.kill(client.workers[0].pid, signal.SIGKILL)
    event = client.end(running)
    assert isinstance(event, CallLost)
    assert event.signal == signal.SIGKILL
    for call_id in waiting:
        assert isinstance(client.end(call_id), CallEnded)


def test_o1_an_outcome_that_was_sent_before_the_death_is_kept(client):
    source = """
        import os, signal, threading
        pid = os.getpid()
        watch = os.fork()
        if watch == 0:
            # Kill the worker as soon as it waits for its next call: the outcome has left it by then.
            while open(f"/proc/{pid}/wchan").read() not in ("__skb_wait_for_more_packets", "unix_dgram_recvmsg"):
                pass
            os.kill(pid, signal.SIGKILL)
            os._exit(0)
        out = b"kept"
    """
    call_id = client.submit(source)
    event = client.end(call_id)
    assert isinstance(event, CallEnded)
    assert bytes(event.payload) == b"kept"


def test_o1_segment_sent_but_outcome_not(client):
    """Killed between the two packets of a long result: the call is lost, the segment is not leaked (leak check)."""
    source = """
        import os, signal
        send = type(ports).send_result
        def send_and_die(self, call_id, fd):
            send(self, call_id, fd)
            os.kill(os.getpid(), signal.SIGKILL)
        type(ports).send_result = send_and_die
        out = b"x" * 100_000
    """
    event = lost(client, source)
    assert event.signal == signal.SIGKILL


def test_u29_a_crash_after_the_outcome_is_blamed_on_nobody(client):
    """An object of the task is destroyed after its outcome was sent, and that kills the worker."""
    source = """
        import os
        class Part(bytes):
            def __del__(self, kill=os.kill, pid=os.getpid()): kill(pid, 9)
        out = [Part(b"kept"), b""]
    """
    event = client.end(client.submit(source))
    assert isinstance(event, CallEnded)
    following = client.submit("out = b'not blamed'")
    assert bytes(client.end(following).payload) == b"not blamed"


def test_u30_workers_that_kill_each_other(make_pool, connect):
    client = connect(make_pool(size=2))
    victim = client.start("import time; time.sleep(60)")
    [pid] = [worker.pid for worker in client.workers if victim in worker.calls]
    assert client.run(f"import os; os.kill({pid}, 9); out = b'done'") == b"done"
    assert isinstance(client.end(victim, resubmit=False), CallLost)


def test_u30_a_task_that_kills_its_parent_kills_the_zygote_only(client):
    """O7: its own call is lost with it, and the pool starts a new zygote."""
    event = lost(client, "import os, time; os.kill(os.getppid(), 9); time.sleep(60)")
    assert "fork server" in event.description
    assert client.run("out = b'recovered'") == b"recovered"


def test_o7_zygote_killed_started_calls_are_lost_and_unread_ones_returned(make_pool, connect):
    client = connect(make_pool(size=2))
    running = [client.start("import time; time.sleep(60)") for _ in range(2)]
    pids = [worker.pid for worker in client.workers]
    os.kill(client.pool._capacity.zygote.server_pid, signal.SIGKILL)
    for call_id in running:
        event = client.end(call_id)
        assert isinstance(event, CallLost)
        assert (event.exit_code, event.signal) == (None, None)
    assert not any(alive(pid) for pid in pids)
    assert client.run("out = b'recovered'") == b"recovered"


def test_o7_zygote_killed_children_in_the_workers_session_die_too(client):
    source = """
        import subprocess
        child = subprocess.Popen(["sleep", "60"])
        ports.request(str(child.pid).encode())
        child.wait()
    """
    running = client.submit(source)
    pid = int(client.hear())
    os.kill(client.pool._capacity.zygote.server_pid, signal.SIGKILL)
    assert isinstance(client.end(running), CallLost)
    assert gone(pid)


def test_o7_zygote_and_sentry_killed_children_in_the_workers_session_are_ended_by_the_coordinator(client):
    """Nobody else is left to do it. Stopped first, or the zygote would see its sentry's end and clean up."""
    running = client.submit("""
        import subprocess
        child = subprocess.Popen(["sleep", "60"])
        ports.request(str(child.pid).encode())
        child.wait()
    """)
    pid = int(client.hear())
    zygote = client.pool._capacity.zygote
    os.kill(zygote.server_pid, signal.SIGSTOP)
    os.kill(zygote.pid, signal.SIGKILL)
    assert gone(zygote.pid)
    os.kill(zygote.server_pid, signal.SIGKILL)
    assert isinstance(client.end(running), CallLost)
    assert gone(pid, 10)
    assert client.run("out = b'recovered'") == b"recovered"


def test_o7_sentry_killed_everything_below_ends_and_another_takes_over(client):
    running = client.submit("""
        import os, subprocess
        child = subprocess.Popen(["sleep", "60"], start_new_session=True)
        ports.request(str(child.pid).encode())
        child.wait()
    """)
    pid = int(client.hear())
    os.kill(client.pool._capacity.zygote.pid, signal.SIGKILL)
    assert isinstance(client.end(running), CallLost)
    assert gone(pid)
    assert client.run("out = b'recovered'") == b"recovered"


def test_o7_zygote_killed_while_everything_is_idle(make_pool, connect):
    pool = make_pool()
    first = connect(pool)
    first.run("pass")
    first.lease.close()
    zygote = pool._capacity.zygote.server_pid
    os.kill(zygote, signal.SIGKILL)
    assert gone(zygote)
    second = connect(pool)
    assert second.run("out = b'recovered'") == b"recovered"


def test_o29_somebody_else_reaps_our_children(make_pool, connect):
    """A program with a wait-for-anybody loop takes the zygote's status; that must not hang or fail anything."""
    pool = make_pool()
    client = connect(pool)
    client.run("pass")
    zygote = pool._capacity.zygote
    os.kill(zygote.server_pid, signal.SIGKILL)
    os.waitpid(zygote.pid, 0)
    assert client.run("out = b'recovered'") == b"recovered"


def test_a_worker_told_to_end_from_outside_ends_and_says_so(client):
    running = client.start("import time; time.sleep(60)")
    os.kill(client.workers[0].pid, signal.SIGTERM)
    event = client.end(running)
    assert isinstance(event, CallLost)
    assert event.signal == signal.SIGTERM
    assert "SIGTERM from outside" in event.description


def test_a_bug_of_the_runner_costs_the_call_and_the_worker(make_pool, connect, capfd):
    client = connect(make_pool(runner="pool_runner:make_broken_runner"))
    event = client.end(client.submit("x"))
    assert isinstance(event, CallLost)
    assert "internal error" in event.description
    assert "a bug of the runner" in capfd.readouterr().err


def test_many_deaths_in_a_row(make_pool, connect):
    """Every call kills its worker; each is lost once, none runs twice."""
    client = connect(make_pool(size=2))
    calls = [client.submit("import os; os._exit(3)") for _ in range(40)]
    client.until(lambda: len(client.ended) == 40)
    assert all(isinstance(client.end(call_id), CallLost) for call_id in calls)
    assert client.run("out = b'fine'") == b"fine"


def test_returned_calls_are_told_with_the_death(client):
    for _ in range(20):
        client.run("pass")
    running = client.submit("import time; time.sleep(60)")
    client.until(lambda: client.started_at(running) is not None)
    os.kill(client.workers[0].pid, signal.SIGKILL)
    event = client.end(running)
    assert isinstance(event, CallLost)
    assert not any(isinstance(one, CallReturned) for one in client.ended[running])


def test_descriptions_of_exits():
    assert termination.describe_exit(3, None) == "exited with code 3"
    assert "os._exit" in termination.describe_exit(0, None)
    assert termination.describe_exit(None, 11) == "was killed by SIGSEGV (a crash in native code)"
    assert "out-of-memory" in termination.describe_exit(None, 9)
    assert "signal 40" in termination.describe_exit(None, 40)
    assert "unknown" in termination.describe_exit(None, None)
