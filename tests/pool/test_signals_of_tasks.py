"""Tasks that handle signals themselves, or fork while they are stopped: they are told once, and stacks stay apart."""

from __future__ import annotations

import os
import signal

import pytest

from dremioframe.orchestration.pool.events import CallLost, CallStopped


def stopped(client, call_id):
    client.lease.stop(call_id, dump=True)
    event = client.end(call_id)
    assert isinstance(event, CallStopped)
    return event


def test_a_tasks_own_handler_is_called_once(make_pool, connect):
    """Told again and again, its ``finally`` blocks would be interrupted."""
    client = connect(make_pool(kill_grace_s=60))
    call_id = client.submit("""
        import os, signal, time
        def handler(signum, frame):
            ports.request(b"handler")
            raise SystemExit(1)
        signal.signal(signal.SIGTERM, handler)
        try:
            ports.request(b"here")
            while True: time.sleep(600)
        finally:
            try:
                time.sleep(0.3)  # many reminders long
            finally:
                ports.request(b"finally")
    """)
    assert client.hear() == "here"
    event = stopped(client, call_id)
    assert client.heard == ["handler", "finally"]
    assert not event.killed


def test_an_initializers_own_handler_is_called_once(make_pool, connect, tmp_path):
    from dremioframe.orchestration.payload.references import pack_code

    path = str(tmp_path / "calls")

    def handle_sigterm():
        def handler(*_):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(fd, b".")
            os.close(fd)

        signal.signal(signal.SIGTERM, handler)

    client = connect(make_pool(kill_grace_s=0.5, initializer=pack_code(handle_sigterm)))
    call_id = client.submit("""
        import time
        ports.request(b"here")
        while True: time.sleep(0.01)
    """)
    assert client.hear() == "here"
    assert stopped(client, call_id).killed
    assert (tmp_path / "calls").read_bytes() == b"."


def test_the_handler_of_one_task_is_not_taken_for_that_of_the_next(make_pool, connect):
    client = connect(make_pool(kill_grace_s=60))
    assert (
        client.run("""
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        out = b"done"
    """)
        == b"done"
    )
    client.run("pass")  # before it begins, what the first has left is put back
    [worker] = client.workers
    assert not worker.page.handles_its_end()


def test_a_child_that_is_forked_during_cleanup_ends_by_sigterm(make_pool, connect):
    client = connect(make_pool(kill_grace_s=60))
    call_id = client.submit("""
        import os, signal, time
        try:
            ports.request(b"here")
            while True: time.sleep(600)
        finally:
            readable, writable = os.pipe()
            child = os.fork()
            if not child:
                os.write(writable, b"!")
                while True: time.sleep(600)
            os.read(readable, 1)  # a new process loses what comes before it is ready
            os.kill(child, signal.SIGTERM)
            ports.request(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
    """)
    assert client.hear() == "here"
    event = stopped(client, call_id)
    assert client.heard == [str(-signal.SIGTERM)]
    assert not event.killed


@pytest.mark.parametrize(
    "change",
    [
        "before = signal.signal(45, signal.SIG_IGN); signal.signal(45, before)",
        "faulthandler.unregister(45)",
        "faulthandler.register(45, file=sys.__stderr__)",
    ],
)
def test_u24_stacks_are_still_written_after_a_task_has_changed_their_signal(make_pool, connect, change):
    client = connect(make_pool(kill_grace_s=60))
    client.run(f"import faulthandler, signal, sys; {change}")
    call_id = client.submit("""
        import time
        def asleep():
            ports.request(b"here")
            while True: time.sleep(600)
        try:
            asleep()
        finally:
            ports.request(b"finally")
    """)
    assert client.hear() == "here"
    event = stopped(client, call_id)
    assert client.heard == ["finally"]
    assert "in asleep" in event.stack


@pytest.mark.parametrize(
    "change",
    [
        "before = signal.signal(signal.SIGSEGV, signal.SIG_IGN); signal.signal(signal.SIGSEGV, before)",
        "faulthandler.disable()",
        "faulthandler.enable(sys.__stderr__)",
    ],
)
def test_u24_a_crash_still_tells_its_stack_after_a_task_has_changed_its_signal(make_pool, connect, change):
    client = connect(make_pool())
    client.run(f"import faulthandler, signal, sys; {change}")
    event = client.end(
        client.submit("""
        import ctypes
        def crash(): ctypes.string_at(0)
        crash()
    """)
    )
    assert isinstance(event, CallLost)
    assert event.signal == signal.SIGSEGV
    assert "in crash" in event.stack


def test_u24_a_task_that_lets_system_calls_go_on_after_sigterm_does_so_for_itself(make_pool, connect):
    client = connect(make_pool(kill_grace_s=60))
    client.run("import signal; signal.siginterrupt(signal.SIGTERM, False)")
    call_id = client.submit("""
        import os
        readable, writable = os.pipe()
        try:
            ports.request(b"here")
            os.read(readable, 1)
        finally:
            ports.request(b"finally")
    """)
    assert client.hear() == "here"
    event = stopped(client, call_id)
    assert client.heard == ["finally"]
    assert not event.killed


def test_u24_a_posix_timer_of_one_task_never_hits_the_next(make_pool, connect):
    client = connect(make_pool())
    event = client.end(
        client.submit("""
        import ctypes, os, time
        libc, timer, soon = ctypes.CDLL(None), ctypes.c_void_p(), (ctypes.c_long * 4)(0, 0, 0, 300_000_000)
        assert libc.timer_create(time.CLOCK_MONOTONIC, None, ctypes.byref(timer)) == 0
        assert libc.timer_settime(timer, 0, soon, None) == 0
        time.sleep(0.002)  # what native code has left is looked for after calls of more than a millisecond
        out = b"kept"
    """)
    )
    assert (event.status, bytes(event.payload)) == (0, b"kept")
    pid = int(client.run("import os, time; time.sleep(0.4); out = str(os.getpid()).encode()"))
    assert pid != event.pid


def test_a_posix_timer_that_was_ended_is_no_reason(make_pool, connect):
    client = connect(make_pool())
    event = client.end(
        client.submit("""
        import ctypes, time
        libc, timer = ctypes.CDLL(None), ctypes.c_void_p()
        assert libc.timer_create(time.CLOCK_MONOTONIC, None, ctypes.byref(timer)) == 0
        assert libc.timer_delete(timer) == 0
        time.sleep(0.002)
    """)
    )
    assert int(client.run("import os; out = str(os.getpid()).encode()")) == event.pid


def test_u19_no_stack_is_written_into_a_file_of_the_tasks(make_pool, connect, tmp_path):
    client = connect(make_pool(kill_grace_s=0))
    call_id = client.submit(f"""
        import os, time
        keep = set()
        for name in os.listdir("/proc/self/fd"):
            link = os.path.join("/proc/self/fd", name)
            if os.path.exists(link) and os.stat(link).st_mode & 0o170000 == 0o140000:
                keep.add(int(name))  # the sockets by which it can say that it is here
        for fd in range(3, 4096):
            if fd not in keep:
                try: os.close(fd)
                except OSError: pass
        files = [open(f"{tmp_path}/{{n}}", "w") for n in range(40)]
        ports.request(b"here")
        while True: time.sleep(600)
    """)
    assert client.hear() == "here"
    stopped(client, call_id)
    written = [path for path in tmp_path.iterdir() if path.stat().st_size]
    assert len(list(tmp_path.iterdir())) == 40
    assert not written


def test_u11_the_crash_of_a_child_is_not_told_as_that_of_a_later_task(make_pool, connect):
    client = connect(make_pool())
    crashed = client.run("""
        import ctypes, os
        child = os.fork()
        if not child: ctypes.string_at(0)
        out = str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode()
    """)
    assert int(crashed) == -signal.SIGSEGV
    event = client.end(client.submit("import os; os._exit(3)"))
    assert isinstance(event, CallLost)
    assert event.exit_code == 3
    assert not event.stack
