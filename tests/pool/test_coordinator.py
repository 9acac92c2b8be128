"""What becomes of a pool whose coordinator dies, exits, turns into another program, or forks. O20, O30."""

from __future__ import annotations

import gc
import os
import signal

import pytest
from pool_client import PID
from pool_waiting import alive, gone

from dremioframe.orchestration.errors import ExecutorClosedError
from dremioframe.orchestration.pool import zygote_client

#: If it does not happen, the watchdog of `make test-the-tests` must not come first: it would leave the processes.
SOON_S = 10.0

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


def test_o20_also_when_its_sentry_is_stopped_and_nothing_tells_the_zygote_but_the_pidfd(script):
    fork = "import ctypes\nchild = ctypes.CDLL(None).fork()\nif child == 0: time.sleep(600)\ntell(child)\n"
    program = script(f"{BUSY}{fork}wait()")
    pids = [int(pid) for pid in program.hear() + program.hear()]
    [child] = program.hear()
    sentry = program.hear_zygote()
    try:
        os.kill(sentry, signal.SIGSTOP)
        program.kill()
        assert all(gone(pid, SOON_S) for pid in pids)
    finally:
        os.kill(sentry, signal.SIGCONT)
        os.kill(int(child), signal.SIGKILL)
    assert gone(sentry)


def test_o20_coordinator_zygote_and_sentry_killed_together_no_worker_stays(script):
    """The zygote is stopped first, or it would see one of the others end and clean up."""
    program = script(BUSY + "tell(pool._capacity.zygote.server_pid)\nwait()")
    trees = [program.hear(), program.hear()]
    zygote, sentry = int(program.hear()[0]), program.hear_zygote()
    os.kill(zygote, signal.SIGSTOP)
    os.kill(sentry, signal.SIGKILL)
    program.kill()
    assert gone(sentry)
    assert gone(program.process.pid)
    os.kill(zygote, signal.SIGKILL)
    ended = [gone(int(worker), SOON_S) for worker, *_ in trees]
    for pid in (int(pid) for tree in trees for pid in tree):  # children of tasks may survive this, as documented
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    assert all(ended)


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


def test_closing_is_not_held_up_by_a_forked_child(make_pool, connect, monkeypatch):
    monkeypatch.setattr(zygote_client, "_END_LIMIT_S", 600.0)
    pool = make_pool()
    client = connect(pool)
    client.run("pass")
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(ready, 1)
        os._exit(0)
    client.lease.close()
    pool.close()
    os.write(tell, b"x")
    os.waitpid(child, 0)
    os.close(ready)
    os.close(tell)
