"""Stopping: certain, aimed at one call, and never at the price of an outcome that was already there."""

from __future__ import annotations

import os
import select
import signal
import time

import pytest
from pool_waiting import alive, eventually, gone

from dremioframe.orchestration.pool.events import CallEnded, CallLost, CallOverdue, CallReturned, CallStopped


def stop(client, call_id, dump=True):
    began = time.monotonic()
    client.lease.stop(call_id, dump=dump)
    event = client.end(call_id, resubmit=False)
    return event, time.monotonic() - began


@pytest.mark.parametrize("source", ["while True: pass", "sum(range(10**12))", "import os\nos.kill(os.getpid(), 19)"])
def test_f5_without_grace_there_still_is_a_stack_and_it_is_quick(make_pool, connect, source):
    client = connect(make_pool(kill_grace_s=0.0))
    call_id = client.submit("ports.request(b'here')\n" + source)
    client.hear()
    event, took_s = stop(client, call_id)
    assert isinstance(event, CallStopped)
    assert "<string>" in event.stack
    assert took_s < 1


def test_a_task_sees_task_cancelled_and_its_finally_blocks_run(client):
    source = """
        from dremioframe.orchestration.errors import TaskCancelled
        try:
            ports.request(b"here")
            while True: pass
        except TaskCancelled:
            ports.request(b"cancelled")
        finally:
            ports.request(b"finally")
    """
    call_id = client.submit(source)
    assert client.hear() == "here"
    event, _ = stop(client, call_id)
    assert isinstance(event, CallStopped)
    assert not event.killed
    assert client.heard == ["cancelled", "finally"]


def test_on_stop_is_called_before_task_cancelled_is_raised(client):
    source = """
        ports.on_stop = lambda: ports.request(b"on_stop")
        try:
            ports.request(b"here")
            while True: pass
        finally:
            ports.request(b"finally")
    """
    call_id = client.submit(source)
    assert client.hear() == "here"
    stop(client, call_id)
    assert client.heard == ["on_stop", "finally"]


def test_on_stop_may_ask_although_it_has_interrupted_a_question(make_pool, connect):
    """The signal comes while the worker waits for the answer to its first question; the hook asks the second."""
    heard = []

    def answer(call_id, question):
        heard.append(question)
        if question.isdigit():
            os.kill(int(question), signal.SIGTERM)
        return b"answer to " + question

    client = connect(make_pool(kill_grace_s=30), answer)
    source = """
        import os
        ports.on_stop = lambda: ports.request(b"hook: " + ports.request(b"hook"))
        ports.request(str(os.getpid()).encode())
        while True: pass
    """
    event = client.end(client.submit(source))
    assert isinstance(event, CallLost)
    assert event.signal == signal.SIGTERM
    assert heard[1:] == [b"hook", b"hook: answer to hook"]


@pytest.mark.parametrize("asleep", ["time.sleep(600)", "subprocess.run(['sleep', '600'])"])
def test_a_task_that_sleeps_beside_other_threads_is_told_in_its_main_thread(make_pool, connect, asleep):
    """The kernel gives a signal to another thread if the main one has still to take the one before it.

    The threads are Python's, because native libraries make none where they see but one core.
    """
    client = connect(make_pool(kill_grace_s=30))
    for _ in range(10):
        call_id = client.submit(f"""
            import subprocess, threading, time
            for _ in range(3):
                threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
            try:
                ports.request(b"here")
                {asleep}
            finally:
                ports.request(b"finally")
        """)
        assert client.hear() == "here"
        event, _ = stop(client, call_id)
        assert client.heard == ["finally"]
        client.heard.clear()
        assert not event.killed


def test_a_second_sigterm_does_not_interrupt_the_finally_blocks(make_pool, connect):
    client = connect(make_pool(kill_grace_s=5))
    source = """
        import os, signal
        try:
            ports.request(b"here")
            while True: pass
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            ports.request(b"finally")
    """
    call_id = client.submit(source)
    assert client.hear() == "here"
    event, _ = stop(client, call_id)
    assert not event.killed
    assert client.heard == ["finally"]


def test_no_call_runs_on_a_worker_that_was_told_to_end(make_pool, connect):
    client = connect(make_pool())
    for _ in range(20):
        client.run("pass")  # opens the window
    running = client.submit("import time; time.sleep(600)")
    others = [client.submit("import os; out = str(os.getpid()).encode()") for _ in range(3)]
    client.until(lambda: client.started_at(running) is not None)
    event, _ = stop(client, running)
    assert isinstance(event, CallStopped)
    for call_id in others:
        assert int(bytes(client.end(call_id).payload)) != event.pid


@pytest.mark.usefixtures("sent_ahead")
def test_r5_stopping_a_call_that_waits_behind_another_returns_it_and_hits_nobody(make_pool, connect):
    client = connect(make_pool())
    for _ in range(20):
        client.run("pass")
    running = client.submit("ports.request(b'here'); import time; time.sleep(0.2); out = b'untouched'")
    waiting = client.submit("out = b'never'")
    while not client.heard:
        client.lease._turn(time.monotonic() + 1)  # as ``wait``, but without giving the waiting call a chance to stall
    event, _ = stop(client, waiting)
    assert isinstance(event, CallReturned)
    assert bytes(client.end(running).payload) == b"untouched"


def test_stopping_a_call_before_its_worker_exists_returns_it(client):
    call_id = client.submit("out = b'never'")
    client.lease.stop(call_id, dump=True)
    assert isinstance(client.end(call_id, resubmit=False), CallReturned)
    assert client.run("out = b'fine'") == b"fine"


def test_r1_an_outcome_that_was_there_before_the_stop_wins(client):
    client.run("pass")
    call_id = client.submit("out = b'in time'")
    pid = client.workers[0].pid
    # Not reading, wait until the outcome is in the channel and the worker has cleared its page.
    assert select.select([client.workers[0].inbox.fd], [], [], 60)[0]
    eventually(lambda: client.started_at(call_id) is None)
    event, _ = stop(client, call_id)
    assert isinstance(event, CallEnded)
    assert bytes(event.payload) == b"in time"
    assert alive(pid)
    assert client.workers[0].pid == pid


def test_r1_an_outcome_that_comes_after_the_stop_is_void(make_pool, connect):
    stopped = []
    client = connect(make_pool(kill_grace_s=60), lambda call_id, body: b"" if stopped else b"go on")
    source = """
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while ports.request(b""): pass
        out = b"too late"
    """
    call_id = client.start(source)
    stopped.append(True)
    event, took_s = stop(client, call_id)
    assert isinstance(event, CallStopped)
    assert took_s < 10  # once its outcome has been seen nothing more is waited for


def test_r1_timeout_and_result_at_the_same_time_give_one_event_each(make_pool, connect):
    """F6 in small: calls that take about as long as their limit."""
    client = connect(make_pool(size=2, kill_grace_s=0.0))
    outcomes = []
    for n in range(60):
        call_id = client.submit(f"import time; time.sleep({0.004 + n % 5 * 0.0005})", timeout_s=0.005)
        client.until(lambda: call_id in client.ended)
        events = client.ended[call_id]
        if isinstance(events[0], CallOverdue):
            client.lease.stop(call_id, dump=False)
            client.until(lambda: len(client.ended[call_id]) == 2)
        outcomes.append(type(client.ended[call_id][-1]))
        assert len([event for event in client.ended[call_id] if not isinstance(event, CallOverdue)]) == 1
    assert set(outcomes) <= {CallEnded, CallStopped}
    assert client.run("out = b'fine'") == b"fine"


def test_stopping_twice_is_stopping_once(client):
    call_id = client.start("while True: pass")
    client.lease.stop(call_id, dump=True)
    event, _ = stop(client, call_id)
    assert isinstance(event, CallStopped)
    assert len(client.ended[call_id]) == 1


def test_stopping_what_is_over_does_nothing(client):
    call_id = client.submit("pass")
    client.end(call_id)
    client.lease.stop(call_id, dump=True)
    client.lease.stop(123456789, dump=True)
    assert client.run("out = b'fine'") == b"fine"
    assert len(client.ended[call_id]) == 1


def test_a_worker_that_dies_while_it_is_being_stopped_counts_as_stopped(client):
    call_id = client.start("import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(600)")
    client.lease.stop(call_id, dump=False)
    os.kill(client.workers[0].pid, signal.SIGKILL)
    assert isinstance(client.end(call_id), CallStopped)


def test_kill_all_ends_everything_without_grace(make_pool, connect):
    client = connect(make_pool(size=2, kill_grace_s=60))
    running = [
        client.start("import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(600)") for _ in range(2)
    ]
    pids = [worker.pid for worker in client.workers]
    client.lease.kill_all()
    for call_id in running:
        event = client.end(call_id)
        assert isinstance(event, CallStopped)
        assert event.killed
    assert not any(alive(pid) for pid in pids)
    assert client.run("out = b'fine'") == b"fine"


def test_kill_all_during_the_grace_of_a_stop(make_pool, connect):
    client = connect(make_pool(kill_grace_s=60))
    call_id = client.start("import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(600)")
    client.lease.stop(call_id, dump=False)
    client.lease.kill_all()
    assert isinstance(client.end(call_id), CallStopped)


# ------------------------------------------------------------------------------------------------------------ deadlines


def test_r13_the_clock_starts_with_the_call_not_with_its_dispatch(make_pool, connect):
    client = connect(make_pool())
    for _ in range(20):
        client.run("pass")
    first = client.submit("import time; time.sleep(0.3)")
    second = client.submit("out = b'in time'", timeout_s=0.2)
    client.until(lambda: second in client.ended)
    assert [type(event) for event in client.ended[second]] == [CallEnded]
    assert isinstance(client.end(first), CallEnded)


def test_overdue_is_told_once_and_nothing_is_done(client):
    call_id = client.submit("import time; time.sleep(1.0); out = b'late'", timeout_s=0.05)
    client.until(lambda: len(client.ended.get(call_id, ())) == 2)
    assert [type(event) for event in client.ended[call_id]] == [CallOverdue, CallEnded]


def test_overdue_is_never_told_early(client):
    client.run("pass")
    call_id = client.start("import time; time.sleep(60)", timeout_s=0.1)
    started = client.started_at(call_id)
    client.until(lambda: call_id in client.ended)
    assert time.monotonic() >= started + 0.1
    assert [type(event) for event in client.ended[call_id]] == [CallOverdue]


def test_o23_a_loop_that_was_away_does_not_call_a_finished_call_overdue(client):
    """The coordinator was stopped past the deadline; the outcome had arrived in time."""
    client.run("pass")
    call_id = client.submit("out = b'in time'", timeout_s=0.5)
    time.sleep(0.7)  # as if stopped; it is the deadline that has to pass
    client.until(lambda: call_id in client.ended)
    assert [type(event) for event in client.ended[call_id]] == [CallEnded]


# -------------------------------------------------------------------------------------------------------- descendants


def descendants(client, source, count):
    call_id = client.submit(source)
    return call_id, [int(client.hear()) for _ in range(count)]


TREE = """
import os, subprocess, time
child = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE)
ports.request(child.stdout.readline())
ports.request(b"%d" % child.pid)
"""

DAEMON = """
import os, time
ready, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.write(tell, b"%d\\n" % os.getpid())
    os.closerange(0, 64)
    while True: time.sleep(600)
ports.request(os.read(ready, 100).strip())
"""


@pytest.mark.parametrize("end", ["stop", "crash", "exit", "close"])
def test_u16_children_of_a_task_end_with_its_worker(make_pool, connect, end):
    end_with_its_worker(connect(make_pool(kill_grace_s=0.05)), TREE, 2, end)


@pytest.mark.parametrize("end", ["stop", "crash", "exit", "close"])
def test_u17_a_daemon_ends_with_the_worker_it_came_from(make_pool, connect, end):
    end_with_its_worker(connect(make_pool(kill_grace_s=0.05)), DAEMON, 1, end)


def end_with_its_worker(client, source, count, end):
    finish = {"crash": "os.kill(os.getpid(), 9)", "exit": "os._exit(0)"}.get(end, "time.sleep(600)")
    call_id, pids = descendants(client, source + finish, count)
    if end == "stop":
        event, _ = stop(client, call_id)
        assert isinstance(event, CallStopped)
    elif end == "close":
        client.lease.close()
        client.pool.close()
    else:
        assert isinstance(client.end(call_id), CallLost)
    assert not any(alive(pid) for pid in pids)  # the event says that the whole tree is gone


def test_u17_a_daemon_that_makes_daemons_is_hunted_down(make_pool, connect):
    client = connect(make_pool())
    source = """
        import os, time
        ready, tell = os.pipe()
        if os.fork() == 0:
            for n in range(20):
                if os.fork():
                    os._exit(0)
                os.setsid()
            os.write(tell, b"%d" % os.getpid())
            while True: time.sleep(600)
        ports.request(os.read(ready, 100))
        os._exit(1)
    """
    call_id = client.submit(source)
    pid = int(client.hear())
    assert isinstance(client.end(call_id), CallLost)
    assert not alive(pid)


def test_children_of_one_worker_do_not_suffer_from_anothers_end(make_pool, connect):
    client = connect(make_pool(size=2))
    _, [child, _] = descendants(client, TREE + "time.sleep(600)", 2)
    assert isinstance(client.end(client.submit("import os; os._exit(1)")), CallLost)
    assert alive(child)
    client.lease.kill_all()
    assert gone(child)


def test_u17_a_daemon_of_a_living_worker_survives_anothers_end(make_pool, connect):
    client = connect(make_pool(size=2))
    _, [daemon] = descendants(client, DAEMON + "time.sleep(600)", 1)
    assert isinstance(client.end(client.submit("import os; os._exit(1)")), CallLost)
    assert alive(daemon)
    client.lease.kill_all()
    assert gone(daemon)
