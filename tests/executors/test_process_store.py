"""Long results of a run within limits of descriptors, memory and disk; and many short inputs of one task."""

from __future__ import annotations

import errno
import gc
import os
import resource
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from loguru import logger

from dremioframe.orchestration import DefinitionError, PayloadError, Pipeline, ProcessExecutor, Task
from dremioframe.orchestration.calls import Request
from dremioframe.orchestration.executors.process_calls import CallData

SCARCE = """
import resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
import numpy as np
from dremioframe.orchestration import Pipeline, ProcessExecutor, Task

COUNT = 600
spill = {"memory_budget": 1e-9, "spill_dir": sys.argv[2]} if len(sys.argv) > 2 else {}
def make(i): return np.full(12_500, i)
def total(context=None): return sum(int(context[f"make_{i}"][-1]) for i in range(COUNT))

pipeline = Pipeline("scarce")
last = Task("total", total)
for i in range(COUNT):
    made = Task(f"make_{i}", make, (i,))
    pipeline.add_task(made)
    made.set_downstream(last)
pipeline.add_task(last)
with ProcessExecutor(max_workers=2, **spill) as executor:
    run = pipeline.run(executor=executor, raise_on_failure=True)
assert run["total"] == sum(range(COUNT))
arrays = [run[f"make_{i}"] for i in range(COUNT)]
for array in arrays:
    array += 1  # private and writable, each of them
assert [int(array[0]) for array in arrays] == list(range(1, COUNT + 1))
"""


@pytest.mark.parametrize(("limit", "spilled"), [(48, False), (128, False), (1024, False), (48, True), (256, True)])
def test_o10_many_long_results_under_a_hard_limit_of_descriptors(tmp_path, limit, spilled):
    script = tmp_path / "scarce.py"
    script.write_text(SCARCE, encoding="utf-8")
    spill_dir = [str(tmp_path)] if spilled else []
    done = subprocess.run(
        [sys.executable, script, str(limit), *spill_dir], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr


def files_in(directory):
    """Descriptors of this process that lie in this directory."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{fd}").startswith(str(directory))
        except FileNotFoundError:  # the listing's own
            continue
    return found


def test_p13_results_beyond_the_budget_go_to_disk_and_leave_nothing_there(tmp_path):
    def make():
        return np.arange(50_000)

    def total(context=None):
        array = context["make"]
        array += 1
        return int(array.sum())

    pipeline = Pipeline("spill")
    made = Task("make", make)
    made.set_downstream(total_task := Task("total", total))
    pipeline.add_task(made).add_task(total_task).add_task(Task("args", len, (b"x" * 100_000,)))
    with ProcessExecutor(max_workers=1, memory_budget=1e-9, spill_dir=tmp_path) as executor:
        run = pipeline.run(executor=executor, raise_on_failure=True)
        assert files_in(tmp_path) == 1
    assert run["total"] == np.arange(50_000).sum() + 50_000
    assert run["args"] == 100_000
    assert run["make"][1] == 1
    assert os.listdir(tmp_path) == []
    assert files_in(tmp_path) >= 1  # the value is read from there
    del run, pipeline
    assert files_in(tmp_path) == 0


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_a_finished_run_is_freed_without_the_collector(executor):
    """It does not know how much memory hangs on an object."""

    def make(context):
        if context.attempt == 1 and executor == "process":  # elsewhere an exception knows its frames, and these all
            raise OSError("not yet")
        return np.arange(50_000)

    def run_once():
        made, last = (
            Task("make", make, retries=1, retry_delay=0),
            Task("last", lambda context: context["make"].sum(), timeout=60),
        )
        made.set_downstream(last)
        pipeline = Pipeline("freed").add_task(made).add_task(last)
        run = pipeline.run(executor=executor, max_workers=1, raise_on_failure=True)
        assert run["make"][-1] == 49_999
        return weakref.ref(run), weakref.ref(run["make"])

    run_once()  # what is made once stays
    gc.collect()
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd"))
        refs = run_once()
        for thread in threading.enumerate():
            if thread.name == "dremioframe-task":
                thread.join()  # it knows its run until it is gone
        assert [known() is None for known in refs] == [True, True]
        assert len(os.listdir("/proc/self/fd")) == before
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = {type(one).__name__ for one in gc.garbage if type(one).__module__.startswith("dremioframe")}
        assert left <= {"Task", "LiveRun", "Store", "Shelves"}  # they know each other, and no result
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_o15_p13_a_full_disk_or_memory_fails_the_attempt_and_not_its_worker(tmp_path):
    def make():
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
        return b"x" * 100_000, os.getpid()

    def recover():
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return os.getpid()

    pipeline = Pipeline("full").add_task(Task("make", make, retries=3))
    with ProcessExecutor(max_workers=1, memory_budget=1e-9, spill_dir=tmp_path) as executor:
        before = Pipeline("p").add_task(Task("pid", os.getpid)).run(executor=executor)["pid"]
        error = pipeline.run(executor=executor).failures["make"]
        after = Pipeline("p").add_task(Task("pid", recover)).run(executor=executor)["pid"]
    assert isinstance(error, PayloadError)
    assert (error.stage, error.path) == ("result_transfer", "result")
    assert "disk space" in str(error)
    assert f"{os.strerror(errno.EFBIG)}, and it did not fit into what is left of the memory budget" in str(error)
    assert str(tmp_path) in str(error)
    assert before == after


def test_arguments_for_which_there_is_no_room_say_what_is_short(tmp_path):
    pipeline = Pipeline("full").add_task(Task("size", len, (b"x" * 300_000,)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with ProcessExecutor(max_workers=1, memory_budget=1e-9, spill_dir=tmp_path) as executor:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            error = pipeline.run(executor=executor).failures["size"]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(error, PayloadError)
    assert (error.stage, error.path) == ("args_transfer", "args")
    assert os.strerror(errno.EFBIG) in str(error)
    assert str(tmp_path) in str(error)
    assert "ulimit -n" in str(error)
    assert pipeline.run(executor="process", max_workers=1)["size"] == 300_000


@pytest.mark.parametrize("what_then", ["nothing", "a file", "not writable"])
def test_o16_a_spill_directory_that_is_lost_is_done_without_and_said(tmp_path, what_then):
    if what_then == "not writable" and os.access("/", os.W_OK):
        pytest.skip("nothing keeps this user from writing")
    directory = tmp_path / "spill"
    directory.mkdir()
    pipeline = Pipeline("long").add_task(Task("make", lambda: np.arange(50_000)))
    said: list[str] = []
    sink = logger.add(said.append, level="WARNING", format="{message}")
    try:
        with ProcessExecutor(max_workers=1, memory_budget=1e-9, spill_dir=directory) as executor:
            pipeline.run(executor=executor, raise_on_failure=True)
            assert not said
            if what_then == "not writable":
                directory.chmod(0o500)
            else:
                directory.rmdir()
            if what_then == "a file":
                directory.touch()
            assert pipeline.run(executor=executor, raise_on_failure=True)["make"][-1] == 49_999
    finally:
        logger.remove(sink)
    assert [str(directory) in text for text in said] == [True]


TAKE_ALL = """
import os, resource, sys, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
import numpy as np
from dremioframe.orchestration import Pipeline, ProcessExecutor, Task

begun, taken = sys.argv[1:]

def die_once(context=None):
    if context.attempt == 1:
        with open(begun, "w"), open(taken):  # a rendezvous at either
            os.kill(os.getpid(), 9)
    return 0

def make(i): return np.full(20_000, i)

pipeline = Pipeline("short").add_task(Task("die_once", die_once, retries=1))
for i in range(40):
    pipeline.add_task(Task(f"make_{i}", make, (i,)))
with ProcessExecutor(max_workers=2) as executor:
    handle = pipeline.start(executor=executor)
    reader, writer = open(begun), open(taken, "w")
    held = []
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        print(error)
    writer.close()
    # Longer than a silent worker is waited for: that is when it is looked what each is doing.
    threading.Timer(2.5, lambda: [os.close(fd) for fd in held]).start()
    run = handle.result()
assert [int(run[f"make_{i}"][-1]) for i in range(40)] == list(range(40))
assert len(run.tasks["die_once"].attempts) == 2
"""


def test_o10_no_descriptor_at_all_for_a_while_is_waited_out(tmp_path):
    script = tmp_path / "take_all.py"
    script.write_text(TAKE_ALL, encoding="utf-8")
    fifos = [str(tmp_path / name) for name in ("begun", "taken")]
    for fifo in fifos:
        os.mkfifo(fifo)
    done = subprocess.run([sys.executable, script, *fifos], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert os.strerror(errno.EMFILE) in done.stdout


@pytest.mark.parametrize("share", [0, 1.5, "much", None, float("nan")])
def test_a_budget_is_a_share(share):
    with pytest.raises(DefinitionError, match="memory_budget"):
        ProcessExecutor(memory_budget=share)


@pytest.mark.parametrize("directory", ["/does/not/exist", 7, "/proc/self/status"])
def test_a_spill_directory_can_be_written_to(directory):
    with pytest.raises(DefinitionError, match="spill_dir"):
        ProcessExecutor(spill_dir=directory)


def made_bytes(i):
    return bytes([i % 256]) * 100


def test_short_values_of_many_upstreams_come_in_one_piece(monkeypatch):
    asked = []
    answer = CallData.answer

    def noting(self, task, attempt, request):
        asked.append(request[:1])
        return answer(self, task, attempt, request)

    monkeypatch.setattr(CallData, "answer", noting)
    count = 10_000
    pipeline = Pipeline("fan-in")
    last = Task("last", lambda context: [(name, context[name]) for name in context])
    for i in range(count):
        made = Task(f"make {i}", made_bytes, (i,))
        pipeline.add_task(made)
        made.set_downstream(last)
    pipeline.add_task(last)
    run = pipeline.run(executor="process", max_workers=2, raise_on_failure=True)
    assert run["last"] == [(f"make {i}", made_bytes(i)) for i in range(count)]
    assert run.tasks["last"].attempts[0].bytes_in > count * 100
    assert asked.count(Request.PARTS) == 1
    assert asked.count(Request.VALUE) == asked.count(Request.LONG_VALUE) == 0


def test_long_code_is_written_down_once_and_read_by_every_worker():
    table = np.arange(100_000)
    pipeline = Pipeline("closure")
    for i in range(6):
        pipeline.add_task(Task(f"t{i}", lambda i=i: int(table[i]) + os.getpid() * 0))
    run = pipeline.run(executor="process", max_workers=2, raise_on_failure=True)
    assert [run[f"t{i}"] for i in range(6)] == list(range(6))
