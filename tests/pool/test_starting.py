"""Starts that fail: told as themselves, blamed on no call, bounded."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import time

import pytest
from pool_waiting import alive, gone

from dremioframe.orchestration.errors import WorkerStartError
from dremioframe.orchestration.payload import references
from dremioframe.orchestration.pool.events import CallEnded, CallReturned
from dremioframe.orchestration.pool.floor import NEVER, Floor
from dremioframe.orchestration.pool.starts import Starts


def fails_to_start(client):
    """Submit one call and wait for the start error; the call itself is returned, every time."""
    with pytest.raises(WorkerStartError) as caught:
        client.end(client.submit("pass"))
    assert client.ended == {}
    return caught.value


def test_o6_starts_wait_longer_each_time_until_one_succeeds():
    starts, delays = Starts(), []
    for _ in range(8):
        before = time.monotonic()
        starts.slow_down()
        delays.append(starts.not_before - before)
    for delay_s, least_s in zip(delays, (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0), strict=True):
        assert delay_s >= least_s
    starts.succeeded()
    starts.slow_down()
    assert starts.not_before <= time.monotonic() + 0.05


def test_o6_an_initializer_that_raises(make_pool, connect):
    def initializer():
        raise ValueError("no database here")

    error = fails_to_start(connect(make_pool(initializer=references.pack_code(initializer))))
    assert "ValueError: no database here" in str(error)
    assert "3 failed starts" in str(error)
    assert "in initializer" in error.boot_traceback


@pytest.mark.parametrize("code", [0, 1])
def test_o6_an_initializer_that_ends_the_process(make_pool, connect, code):
    error = fails_to_start(connect(make_pool(initializer=references.pack_code(lambda: __import__("os")._exit(code)))))
    assert f"exited with code {code}" in str(error)


def test_o6_an_initializer_that_crashes_leaves_its_stack(make_pool, connect):
    error = fails_to_start(connect(make_pool(runner="pool_runner:crash_at_boot")))
    assert "SIGSEGV" in str(error)
    assert "crash_at_boot" in error.boot_traceback


def test_o6_a_runner_that_cannot_be_made(make_pool, connect):
    assert "never starts" in str(fails_to_start(connect(make_pool(runner="pool_runner:refuse_to_boot"))))


def test_an_initializer_runs_once_in_each_worker_before_its_first_call(make_pool, connect):
    def initializer():
        import sys

        sys.initialized = getattr(sys, "initialized", 0) + 1

    client = connect(make_pool(size=2, initializer=references.pack_code(initializer)))
    for _ in range(4):
        assert client.run("import sys; out = str(sys.initialized).encode()") == b"1"


@pytest.mark.parametrize(
    ("module", "source", "words"),
    [
        ("broken_module", "raise RuntimeError('broken on purpose')", "broken on purpose"),
        ("exiting_module", "import os; os._exit(5)", "exited with code 5"),
        ("leaving_module", "raise SystemExit(3)", "SystemExit"),
    ],
)
def test_o8_a_preload_module_that_fails(make_pool, connect, tmp_path, monkeypatch, module, source, words):
    (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    error = fails_to_start(connect(make_pool(preload=(module,))))
    assert words in str(error)


def test_o8_a_preload_module_that_does_not_exist(make_pool, connect):
    assert "no_such_module_xyz" in str(fails_to_start(connect(make_pool(preload=("no_such_module_xyz",)))))


def test_u33_a_preload_module_that_leaves_threads_running_is_refused_by_name(make_pool, connect, tmp_path, monkeypatch):
    (tmp_path / "threaded_module.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), name='mine', daemon=True).start()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    error = fails_to_start(connect(make_pool(preload=("json", "threaded_module"))))
    assert "'threaded_module' leaves threads running (mine)" in str(error)


def test_u33_a_preload_module_whose_threads_end_is_accepted(make_pool, connect, tmp_path, monkeypatch):
    (tmp_path / "brief_module.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(0.05,)).start()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    client = connect(make_pool(preload=("brief_module",)))
    assert client.run("import sys; out = repr('brief_module' in sys.modules).encode()") == b"True"


def test_a_coordinator_that_dies_during_a_long_preload_takes_the_zygote_along(script, tmp_path):
    (tmp_path / "slow_module.py").write_text("import time\nopen('started', 'w').close()\ntime.sleep(600)\n")
    program = script("pool.start(); wait()", preload=("slow_module",), cwd=tmp_path)
    zygote = program.hear_zygote()
    while not (tmp_path / "started").exists():
        assert alive(zygote)
    program.kill()
    assert gone(zygote)


def test_a_pool_can_be_closed_during_a_long_preload(make_pool, tmp_path, monkeypatch):
    (tmp_path / "slow_module.py").write_text(
        f"import time\nopen({str(tmp_path / 'started')!r}, 'w').close()\ntime.sleep(600)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    pool = make_pool(preload=("slow_module",))
    pool.start()
    zygote = pool._capacity.zygote.pid
    while not (tmp_path / "started").exists():
        assert alive(zygote)
    pool.close()
    assert gone(zygote)


def test_preloaded_modules_are_shared_and_signal_handlers_they_set_are_not(make_pool, connect, tmp_path, monkeypatch):
    (tmp_path / "rude_module.py").write_text(
        "import signal, faulthandler\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGUSR1, lambda *_: None)\nfaulthandler.enable()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    client = connect(make_pool(preload=("rude_module",)))
    source = """
        import sys, signal
        out = repr(("rude_module" in sys.modules, signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL)).encode()
    """
    assert client.run(source) == b"(True, True)"
    event = client.end(client.submit("import ctypes; ctypes.string_at(0)"))
    assert event.signal == signal.SIGSEGV
    assert "<string>" in event.stack


def test_workers_killed_from_outside_while_they_start_are_no_reason_to_give_up_soon(make_pool, connect, tmp_path):
    flag = tmp_path / "kills"

    def initializer():
        with open(flag, "a") as file:
            file.write("x")
        if flag.stat().st_size <= 5:
            os.kill(os.getpid(), signal.SIGKILL)

    client = connect(make_pool(initializer=references.pack_code(initializer)))
    assert client.run("out = b'sixth time lucky'") == b"sixth time lucky"


def test_fork_servers_killed_from_outside_while_they_start_are_no_reason_to_give_up_soon(
    make_pool, connect, tmp_path, monkeypatch
):
    (tmp_path / "killed_module.py").write_text(
        "import os, signal\n"
        f"with open({str(tmp_path / 'kills')!r}, 'a') as file: file.write('x')\n"
        f"if os.path.getsize({str(tmp_path / 'kills')!r}) <= 5: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    client = connect(make_pool(preload=("killed_module",)))
    assert client.run("out = b'sixth time lucky'") == b"sixth time lucky"


def test_a_failed_start_is_forgiven_when_the_next_one_succeeds(make_pool, connect, tmp_path):
    flag = tmp_path / "attempts"

    def initializer():
        with open(flag, "a") as file:
            file.write("x")
        if flag.stat().st_size <= 2:
            raise RuntimeError("not yet")

    client = connect(make_pool(initializer=references.pack_code(initializer)))
    assert client.run("out = b'third time lucky'") == b"third time lucky"
    assert flag.stat().st_size == 3


def test_a_pool_that_could_not_start_may_be_tried_again(make_pool, connect, tmp_path):
    flag = tmp_path / "ready"

    def initializer():
        if not flag.exists():
            raise RuntimeError("not yet")

    pool = make_pool(initializer=references.pack_code(initializer))
    first = connect(pool)
    fails_to_start(first)
    first.lease.close()
    flag.touch()
    assert connect(pool).run("out = b'now'") == b"now"


def test_there_is_no_interpreter(make_pool, connect, monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    assert "sys.executable is empty" in str(fails_to_start(connect(make_pool())))


def test_the_interpreter_is_missing(make_pool, connect, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert os.strerror(errno.ENOENT) in str(fails_to_start(connect(make_pool())))


def test_o10_no_descriptor_left_in_the_coordinator(make_pool, connect):
    client = connect(make_pool())
    with few_descriptors(0):
        error = fails_to_start(client)
    assert os.strerror(errno.EMFILE) in str(error)
    assert client.run("out = b'afterwards'") == b"afterwards"


@pytest.mark.parametrize("left", [0, 1])
def test_o10_no_descriptor_left_to_listen_to_warm_workers(make_pool, connect, left):
    pool = make_pool()
    warming = connect(pool)
    warming.run("pass")
    warming.lease.close()
    before = len(os.listdir("/proc/self/fd"))
    with few_descriptors(left), pytest.raises(WorkerStartError, match=os.strerror(errno.EMFILE)):
        connect(pool)
    assert len(os.listdir("/proc/self/fd")) == before
    assert connect(pool).run("out = b'afterwards'") == b"afterwards"


def test_o10_what_was_opened_to_listen_is_given_back(make_pool, connect, monkeypatch):
    def watch(floor, fd, handler):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    pool = make_pool()
    pool.start()
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as first_only:
        first_only.setattr(Floor, "watch", watch)
        with pytest.raises(WorkerStartError, match=os.strerror(errno.ENOMEM)) as caught:
            connect(pool)
    assert len(os.listdir("/proc/self/fd")) == before, caught.value
    assert connect(pool).run("out = b'afterwards'") == b"afterwards"


def test_o10_too_few_descriptors_for_another_worker_is_no_error(make_pool, connect):
    client = connect(make_pool(size=4))
    client.run("pass")
    with few_descriptors(2):
        calls = [client.submit("pass") for _ in range(50)]
        client.until(lambda: sum(call_id in client.ended for call_id in calls) == 50)
    assert len(client.workers) == 1


def test_o10_a_long_result_waits_until_there_is_a_descriptor_for_it(make_pool, connect):
    client = connect(make_pool())
    client.run("pass")
    call_id = client.submit("out = b'x' * 100_000")
    with few_descriptors(0):
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            client.turn(0.05)
        assert call_id not in client.ended
    event = client.end(call_id)
    assert isinstance(event, CallEnded)
    assert event.segment.read() == b"x" * 100_000
    event.segment.close()


class few_descriptors:
    """Leave this process only so many free descriptors."""

    def __init__(self, free):
        self.free = free

    def __enter__(self):
        self.before = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(map(int, os.listdir("/proc/self/fd")))
        self.filled = []
        lowest_unused = os.dup(0)
        os.close(lowest_unused)
        limit = max(highest, lowest_unused) + 1 + self.free  # enough numbers, whatever gaps there are
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, self.before[1]))
        try:
            while True:
                self.filled.append(os.dup(0))
        except OSError:
            for _ in range(self.free):
                os.close(self.filled.pop())

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_NOFILE, self.before)
        for fd in self.filled:
            os.close(fd)


def test_a_call_waits_for_a_slow_initializer_only_if_nobody_else_is_free(make_pool, connect, tmp_path):
    """The second worker takes long to start; the call meant for it is run by the first as soon as that is idle."""
    first_flag = tmp_path / "first"

    def initializer():
        if first_flag.exists():
            __import__("time").sleep(600)
        first_flag.touch()

    client = connect(make_pool(size=2, initializer=references.pack_code(initializer)))
    first = client.start("import time; time.sleep(0.3); out = b'first'")
    second = client.submit("out = b'second'")
    assert isinstance(client.end(second), CallEnded)
    assert isinstance(client.end(first), CallEnded)
    assert client.returned == [second]


def test_nobody_polls_for_a_worker_that_boots_while_none_is_idle(make_pool, connect, tmp_path):
    flag = tmp_path / "flag"

    def initializer():
        while not flag.exists():
            __import__("time").sleep(0.01)

    client = connect(make_pool(size=2, initializer=references.pack_code(initializer)))
    calls = [client.submit("pass") for _ in range(2)]
    client.until(lambda: all(worker.pid for worker in client.workers))
    dispatch = client.lease._dispatch
    assert dispatch.due(time.monotonic()) == NEVER
    flag.touch()
    client.until(lambda: all(call_id in client.ended for call_id in calls))


def test_stopping_works_while_the_worker_is_still_booting(make_pool, connect):
    client = connect(make_pool(initializer=references.pack_code(lambda: __import__("time").sleep(600))))
    call_id = client.submit("pass")
    client.turn(0.2)
    client.lease.stop(call_id, dump=True)
    assert isinstance(client.end(call_id, resubmit=False), CallReturned)
