"""Whatever a call does it can be ended, from outside and for certain. Fault ids U12 to U14, U31."""

from __future__ import annotations

import pytest
from pool_waiting import alive

from dremioframe.orchestration.pool.events import CallStopped

HERE = "ports.request(b'here')\n"

HOLDS_ON = {
    "python loop": "while True: pass",
    "sleep": "import time; time.sleep(600)",
    "c loop that holds the GIL": "sum(range(10**12))",
    "catastrophic regex": "import re; re.match(r'(a+)+b', 'a' * 40)",
    "waits for a lock": "import threading; threading.Lock().acquire() and threading.Semaphore(0).acquire()",
}

#: These, and those below, say for themselves when they are where no exception gets them out.
SWALLOWS = {
    "swallowed exceptions": """
while True:
    try:
        ports.request(b"here")
        while True: pass
    except BaseException:
        pass
""",
    "endless finally": """
try:
    ports.request(b"here")
    while True: pass
finally:
    while True: pass
""",
}

DEAF = {
    "ignored SIGTERM": """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ports.request(b"here")
while True: time.sleep(1)
""",
    "blocked signals": """
import signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
ports.request(b"here")
while True: time.sleep(1)
""",
}

STOPPED = {
    "stopped process": "import os, signal, time\nos.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(600)",
    "stops itself again": """
import os, signal
while True: os.kill(os.getpid(), signal.SIGSTOP)
""",
}


def stopped(client, source):
    """Have this run, stop it; the event that tells of its end."""
    call_id = client.submit(source)
    client.hear()
    pid = client.workers[0].pid
    client.lease.stop(call_id, dump=True)
    event = client.end(call_id, resubmit=False)
    assert isinstance(event, CallStopped)
    assert event.pid == pid
    assert not alive(pid)
    assert client.run("out = b'pool goes on'") == b"pool goes on"
    return event


@pytest.mark.parametrize("kind", HOLDS_ON)
def test_u12_a_loop_that_never_gives_way_ends_and_leaves_its_stack(make_pool, connect, kind):
    assert "<string>" in stopped(connect(make_pool(kill_grace_s=0.1)), HERE + HOLDS_ON[kind]).stack


@pytest.mark.parametrize("kind", SWALLOWS)
def test_u13_swallowed_exceptions_do_not_keep_a_task_alive(make_pool, connect, kind):
    event = stopped(connect(make_pool(kill_grace_s=0.1)), SWALLOWS[kind])
    assert event.killed
    assert "<string>" in event.stack


@pytest.mark.parametrize("kind", DEAF)
def test_u14_a_task_deaf_to_sigterm_is_killed_after_the_grace(make_pool, connect, kind):
    event = stopped(connect(make_pool(kill_grace_s=0.1)), DEAF[kind])
    assert event.killed
    assert kind == "blocked signals" or "<string>" in event.stack


@pytest.mark.parametrize("kind", STOPPED)
def test_u31_a_stopped_process_ends_and_leaves_its_stack(make_pool, connect, kind):
    assert "<string>" in stopped(connect(make_pool(kill_grace_s=0.1)), HERE + STOPPED[kind]).stack


def test_u31_a_stopped_process_is_continued_so_that_it_can_clean_up(make_pool, connect):
    client = connect(make_pool(kill_grace_s=60))
    stops = "ports.request(b'here'); os.kill(os.getpid(), signal.SIGSTOP); signal.pause()"
    assert not stopped(client, f"import os, signal\ntry: {stops}\nfinally: ports.request(b'done')").killed
    assert client.heard == ["done"]
