"""What a short call leaves behind where nothing counts it, or what cannot be put back. Fault ids U19, U20, U22 to U24.

Many cases over one warm worker: a start costs more than all of them together.
"""

from __future__ import annotations

import os

import pytest
from pool_client import PID

from dremioframe.orchestration.pool.events import CallEnded


@pytest.fixture
def worker(client):
    """A client whose worker has imported what the cases use: an import takes long enough to be looked after anyway."""
    client.run("import gc, io, os, sys, signal, socket, threading, inspect, pickle, cloudpickle, faulthandler")
    return client


CLOSED_BY = (
    "open(1, 'wb', buffering=0).close()",
    "import os; os.fdopen(1).close()",
    "import io; io.FileIO(2).close()",
    "import io, os; io.FileIO(2).close(); os.open(os.devnull, os.O_WRONLY)",
    "import os; os.fdopen(1).close(); os.fdopen(2).close(); os.pipe()",
    "import socket; socket.close(1)",
    "import posix; posix.close(1)",
    "open(0).close()",
    "import os; os.close(0)",
    "import os; os.dup2(os.open('/dev/zero', os.O_RDONLY), 0)",
    "import sys; sys.stdin.close()",
    "import sys, io; sys.stdin = io.StringIO('answer')",
    "import sys; del sys.stdin",
)


def test_u20_u22_a_standard_descriptor_never_becomes_the_next_calls_file(worker, tmp_path):
    pid = worker.run(PID)
    look = """
        import os, sys
        fd = os.open({path!r}, os.O_WRONLY | os.O_CREAT)
        print("for the standard streams")
        print("for the standard streams", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os.close(fd)
        assert fd > 2, fd
        assert os.path.samestat(os.fstat(0), os.stat(os.devnull))
        assert sys.stdin.read() == ""
        out = str(os.getpid()).encode()
    """
    for n, source in enumerate(CLOSED_BY):
        path = tmp_path / str(n)
        worker.run(source)
        assert worker.run(look.format(path=str(path))) == pid, source
        assert path.read_bytes() == b"", source


def test_standard_streams_stay_blocking(worker):
    """The flag belongs to the file, which the user's own program has open as well."""
    worker.run("import os; [os.set_blocking(fd, False) for fd in (0, 1, 2)]")
    assert (
        worker.run("import os; out = repr([os.get_blocking(fd) for fd in (0, 1, 2)]).encode()") == b"[True, True, True]"
    )
    assert all(os.get_blocking(fd) for fd in (0, 1, 2))


def test_untouched_streams_are_not_put_back(worker):
    worker.run("assert ports.hygiene._streams.are_as_found()")  # or every call would pay for it


@pytest.mark.parametrize("closed", ["0", "1, 2", "0, 1, 2"])
def test_u20_descriptors_that_an_initializer_has_closed(make_pool, connect, closed):
    from dremioframe.orchestration.payload.references import pack_code

    numbers = [int(number) for number in closed.split(",")]
    client = connect(make_pool(initializer=pack_code(lambda: [os.close(number) for number in numbers])))
    assert (
        client.run("import os; fd = os.open('/', os.O_RDONLY); print('x'); os.close(fd); out = str(fd).encode()") > b"2"
    )


@pytest.mark.parametrize(
    "source",
    [
        "import os\nfor fd in SAVED: os.close(fd)",
        "import os\nfor fd in SAVED: os.dup2(os.open('/dev/zero', os.O_RDWR), fd)",
    ],
)
def test_u19_saved_copies_that_are_gone_cost_the_worker_and_not_the_call(worker, source):
    pid = int(worker.run(PID))
    # The last three: they lie above everything that a task is likely to touch.
    find = "import os\nSAVED = sorted(fd for fd in map(int, os.listdir('/proc/self/fd')) if fd >= 100)[-3:]\n"
    event = worker.end(worker.submit(f"{find}{source}\nout = str(len(SAVED)).encode()"))
    assert isinstance(event, CallEnded)
    assert bytes(event.payload) == b"3"
    assert event.pid == pid
    assert int(worker.run(PID)) != pid


SETTINGS = (
    ("import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})", "sorted(os.sched_getaffinity(0))"),
    ("import gc; gc.disable()", "gc.isenabled()"),
    ("import gc; gc.set_threshold(7, 7, 7)", "gc.get_threshold()"),
    ("import sys; sys.setswitchinterval(1)", "sys.getswitchinterval()"),
    ("import threading; threading.settrace(print)", "threading.gettrace()"),
    ("import threading; threading.setprofile(print)", "threading.getprofile()"),
    ("import socket; socket.setdefaulttimeout(3)", "socket.getdefaulttimeout()"),
    (
        "import signal, socket; a, b = socket.socketpair(); a.setblocking(False); signal.set_wakeup_fd(a.detach())",
        "signal.set_wakeup_fd(-1)",
    ),
    ("import sys; sys.set_int_max_str_digits(640)", "sys.get_int_max_str_digits()"),
    ("import sys; sys.setdlopenflags(0x101)", "sys.getdlopenflags()"),
    ("import threading; threading.stack_size(65536)", "threading.stack_size()"),
    ("import os; os.umask(0o7)", "os.umask(0o22)"),
    ("import posix; posix.chdir('/proc')", "os.getcwd()"),
    ("import _signal; _signal.signal(10, print)", "str(signal.getsignal(10))"),
)


def test_u23_u24_settings_are_put_back_after_a_short_call(worker):
    pid = worker.run(PID)
    for change, look in SETTINGS:
        source = f"import gc, os, signal, socket, sys, threading; out = repr({look}).encode()"
        before = worker.run(source)
        worker.run(change)
        assert worker.run(source) == before, change
    assert worker.run(PID) == pid


ZONE = "import time; out = repr((time.tzname, time.timezone, time.localtime(0).tm_hour)).encode()"


@pytest.mark.parametrize(
    "change",
    [
        "os.environ['TZ'] = 'ABC-9'; time.tzset()",
        "os.environ['TZ'] = 'ABC-9'; time.tzset(); del os.environ['TZ']",
        "os.environ['TZ'] = 'ABC-9'; time.mktime((2000, 1, 1, 0, 0, 0, 0, 0, 0))",  # it looks there, too
    ],
)
def test_u23_the_time_zone_is_put_back_with_its_variable(worker, change):
    pid = worker.run(PID)
    before = worker.run(ZONE)
    worker.run(f"import os, time; {change}")
    assert worker.run(ZONE) == before
    assert worker.run(PID) == pid


def test_u24_a_dump_that_ends_the_process_never_hits_the_next_call(worker):
    pid = worker.run(PID)
    worker.run(
        "import faulthandler, os; faulthandler.dump_traceback_later(0.3, exit=True, file=os.open('/dev/null', 1))"
    )
    assert worker.run(f"import time; time.sleep(0.5)\n{PID}") == pid


@pytest.mark.parametrize(
    ("change", "root_only"),
    [("os.nice(1)", False), ("os.seteuid(65534)", True), ("os.setegid(65534)", True), ("os.setgroups([7])", True)],
)
def test_u23_what_cannot_be_put_back_costs_the_worker_and_not_the_call(worker, change, root_only):
    if root_only and os.geteuid() != 0:
        pytest.skip("only root may become somebody else")
    pids = set()
    calls = [worker.submit(f"import os; {change}; out = str(os.getpid()).encode()") for _ in range(3)]
    for call_id in calls:
        event = worker.end(call_id)
        assert isinstance(event, CallEnded), event
        assert event.status == 0, bytes(event.payload)
        pids.add(bytes(event.payload))
    assert len(pids) == 3
    look = "import os; out = repr((os.getpriority(0, 0), os.geteuid(), os.getegid(), os.getgroups())).encode()"
    assert worker.run(look).decode() == repr((os.getpriority(0, 0), os.geteuid(), os.getegid(), os.getgroups()))


FUNCTIONS = "os.close os.chdir os.dup2 os.nice signal.setitimer signal.set_wakeup_fd gc.disable sys.setswitchinterval"


@pytest.mark.parametrize("name", FUNCTIONS.split())
def test_a_function_that_counts_is_used_like_the_one_it_stands_for(client, name):
    module, _, short = name.partition(".")
    client.run(f"""
        import cloudpickle, copy, gc, inspect, os, pickle, signal, sys
        counts = {name}
        assert inspect.isbuiltin(counts) and inspect.isroutine(counts) and callable(counts)
        assert (counts.__name__, counts.__qualname__, counts.__module__) == ({short!r}, {short!r}, {module!r})
        assert counts.__doc__ == counts.__wrapped__.__doc__ and repr(counts) == repr(counts.__wrapped__)
        assert counts.__text_signature__ == counts.__wrapped__.__text_signature__
        if counts.__text_signature__ is not None:
            assert inspect.signature(counts) == inspect.signature(counts.__wrapped__)
        for pickler in (pickle, cloudpickle):
            assert pickle.loads(pickler.dumps(counts)) is counts
        assert copy.copy(counts) is counts is copy.deepcopy(counts)
        class Holder:
            held = counts
        assert Holder().held is counts
        assert (os.chdir in os.supports_fd) and (os.close not in os.supports_fd)
    """)


def test_a_counting_function_held_by_a_class_gets_no_self(client):
    client.run("""
        import os
        class File:
            _close = os.close
            def __init__(self):
                self.fd = os.open(os.devnull, os.O_RDONLY)
            def close(self):
                self._close(self.fd)
        File().close()
    """)


ENDED = """
import os, signal
for _ in range({ended}):
    if not os.fork():
        os.fork()  # what this leaves falls to the worker
        os._exit(0)
    os.wait()
for _ in range({alive}):
    if not os.fork():
        signal.pause()
def ended(pid):
    with open("/proc/%s/stat" % pid) as stat:
        return ") Z " in stat.read()
def all_children():
    with open("/proc/self/task/%d/children" % os.getpid()) as children:
        return children.read().split()
while sum(map(ended, all_children())) < {ended}: pass
out = str(os.getpid()).encode()
"""


@pytest.mark.parametrize(("ended", "alive", "stays"), [(101, 0, False), (20, 0, True), (1, 101, True)])
def test_u23_too_many_children_that_nobody_waits_for_cost_the_worker_and_not_the_call(worker, ended, alive, stays):
    event = worker.end(worker.submit(ENDED.format(ended=ended, alive=alive)))
    assert isinstance(event, CallEnded)
    assert (event.status, bytes(event.payload)) == (0, b"%d" % event.pid)
    assert (int(worker.run(PID)) == event.pid) is stays


def test_the_end_of_a_tasks_own_child_is_left_to_be_seen(worker):
    worker.run("import subprocess; subprocess.child = subprocess.Popen(['sh', '-c', 'exit 7'])")
    worker.run("import os; os.waitid(os.P_PID, __import__('subprocess').child.pid, os.WEXITED | os.WNOWAIT)")
    assert worker.run("import subprocess; out = str(subprocess.child.wait()).encode()") == b"7"
