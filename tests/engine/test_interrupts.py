"""Signal handlers: installed only where they belong, always taken back."""

from __future__ import annotations

import _signal
import os
import re
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task
from dremioframe.orchestration.engine.coordinator import Coordinator
from dremioframe.orchestration.engine.handle import RunHandle
from dremioframe.orchestration.engine.interrupts import Interrupts
from dremioframe.orchestration.pool import lifecycle, silence
from dremioframe.orchestration.pool.capacity import Capacity
from dremioframe.orchestration.pool.dispatch import Dispatch
from dremioframe.orchestration.pool.lifecycle import Lifecycle
from dremioframe.orchestration.pool.zygote_client import ZygoteClient


@pytest.mark.parametrize("executor", ["process", "thread", "inline"])
def test_a_signal_that_another_thread_was_given_is_noticed(executor, tmp_path, monkeypatch):
    """The kernel may choose any thread, and only the main thread runs handlers; it sleeps, and nothing wakes it."""
    asleep = re.compile(r"\d+ \(.*\) S ")
    here = Path(f"/proc/self/task/{threading.get_native_id()}/stat")
    started = tmp_path / "started"

    def interrupt():
        while not started.exists() or not asleep.match(here.read_text()):
            time.sleep(0.01)  # nothing tells when a thread falls asleep
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    for module, limit in ((lifecycle, "_FORK_LIMIT_S"), (silence, "_LOOK_S")):  # looks that are due then would help
        monkeypatch.setattr(module, limit, 600.0)
    over = threading.Event()  # a thread cannot be ended

    def in_thread():
        started.touch()
        over.wait()

    def in_process(path):
        open(path, "x").close()
        time.sleep(600)

    def inline():
        started.touch()
        raise ValueError("again, after a time in which this thread sleeps")

    task = {
        "process": Task("t", in_process, args=(str(started),)),
        "thread": Task("t", in_thread),
        "inline": Task("t", inline, retries=1, retry_delay=600.0, retry_max_delay=600.0),
    }[executor]
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        Pipeline("p").add_task(task).run(executor=executor)
    over.set()


@pytest.fixture
def default_sigterm():
    previous = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, previous)


def test_counts_and_restores():
    before = signal.getsignal(signal.SIGINT)
    told = []

    def interrupted():
        with Interrupts() as interrupts:
            interrupts.notify(lambda *, stop: bool(told.append((stop, interrupts.count, interrupts.first))))
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert told == [(True, 1, signal.SIGINT), (True, 2, signal.SIGINT)]
    assert signal.getsignal(signal.SIGINT) is before


def test_raises_in_the_task_if_told_so():
    reached = []

    def interrupted():
        with Interrupts() as interrupts:
            interrupts.notify(lambda *, stop: stop)
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not reached


def test_an_ignored_signal_stays_ignored():
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert interrupts.count == 0
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_the_users_own_handler_gets_the_signal_again(default_sigterm):
    got = []
    signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    with Interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
        assert got == []
    assert got == [signal.SIGTERM]


def test_a9_not_in_other_threads():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def enter():
        with Interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]


# ------------------------------------------------------------------------------------------- handlers that are no stop


class LateError(Exception):
    """What the user's handler raises, as those of time-outs by signal do."""


@pytest.fixture
def heard():
    """Signals that the user's handlers have heard; that of SIGUSR1 raises then."""
    heard = []

    def note(number, frame):
        heard.append(number)
        if number == signal.SIGUSR1:
            raise LateError

    previous = {number: signal.signal(number, note) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    yield heard
    for number, handler in previous.items():
        signal.signal(number, handler)


def test_others_wait_until_they_are_handed_on(heard):
    with Interrupts() as interrupts:
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
            signal.raise_signal(number)
        assert (heard, interrupts.count) == ([], 0)
        with pytest.raises(LateError):
            interrupts.hand_on()
        assert heard == [signal.SIGUSR1]
        interrupts.hand_on()
        assert heard == [signal.SIGUSR1, signal.SIGUSR2]  # twice is once until it was heard, as the kernel has it
    assert heard == [signal.SIGUSR1, signal.SIGUSR2]


def test_at_the_end_each_is_heard_and_each_handler_back_though_one_raises(heard):
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}

    def disturbed():
        with Interrupts():
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR2)

    with pytest.raises(LateError):
        disturbed()
    assert heard == [signal.SIGUSR1, signal.SIGUSR2]
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


def test_a_handler_that_was_replaced_meanwhile_stays(heard):
    with Interrupts():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN


def test_in_an_inline_task_the_users_handler_runs_at_once(heard):
    def task():
        signal.raise_signal(signal.SIGUSR2)
        assert heard == [signal.SIGUSR2]
        signal.raise_signal(signal.SIGUSR1)

    run = Pipeline("p").add_task(Task("t", task)).run(executor="inline")
    assert isinstance(run.failures["t"].__cause__, LateError)


def signal_and_wait(pid, fifo):
    os.kill(pid, signal.SIGUSR2)
    with open(fifo) as heard:  # until the handler opens it too
        return heard.read()


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_while_tasks_run_elsewhere_a_handler_is_called_between_two_turns(executor, tmp_path):
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    previous = signal.signal(signal.SIGUSR2, lambda number, frame: Path(fifo).write_text("called"))
    try:
        run = Pipeline("p").add_task(Task("t", signal_and_wait, args=(os.getpid(), fifo))).run(executor=executor)
    finally:
        signal.signal(signal.SIGUSR2, previous)
    assert run["t"] == "called"


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_what_a_handler_raises_ends_the_run_and_comes_out(executor, heard, tmp_path):
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    over = os.open(fifo, os.O_RDWR)  # a thread cannot be ended; this lets it go on

    def task(pid):
        os.kill(pid, signal.SIGUSR1)
        with open(fifo) as end:
            end.read(1)

    pipeline = Pipeline("p").add_task(Task("t", task, args=(os.getpid(),)))
    with pytest.raises(LateError):
        pipeline.run(executor=executor)
    os.write(over, b"x")
    for thread in threading.enumerate():
        if thread.name == "dremioframe-task":
            thread.join()
    os.close(over)
    assert pipeline.last_run.status == "CANCELLED"


PLACES = [
    (Capacity, "join"),
    (Capacity, "acquire"),
    (Dispatch, "submit"),
    (Coordinator, "_record_end"),
    (Lifecycle, "dismiss"),
    (Capacity, "give_back"),
]


def meet(mine, others):
    with open(mine, "w"), open(others):  # each opens for the other
        return True


def meet_other(others, mine):
    with open(mine), open(others, "w"):
        return True


@pytest.mark.parametrize(("owner", "name"), PLACES, ids=lambda given: getattr(given, "__name__", given))
def test_a_handler_that_raises_costs_a_warm_pool_nothing(owner, name, heard, tmp_path, monkeypatch):
    """Wherever it comes: nothing is half done. The next run has all workers, and sees nothing of this one."""
    fifos = [str(tmp_path / "one"), str(tmp_path / "two")]
    for fifo in fifos:
        os.mkfifo(fifo)
    pipeline = Pipeline("p").add_task(Task("one", meet, args=fifos))
    pipeline.add_task(Task("two", meet_other, args=fifos[::-1]))
    original = getattr(owner, name)

    def interrupted(*args, **kwargs):
        done = original(*args, **kwargs)
        signal.raise_signal(signal.SIGUSR1)
        return done

    with ProcessExecutor(max_workers=2) as executor:
        pipeline.run(executor=executor)
        with monkeypatch.context() as once:
            once.setattr(owner, name, interrupted)
            with pytest.raises(LateError):
                pipeline.run(executor=executor)
        run = pipeline.run(executor=executor, timeout=30)
    assert dict(run) == {"one": True, "two": True}


def test_a_handler_that_raises_while_a_run_begins_leaves_no_process(heard, monkeypatch):
    start = ZygoteClient.start

    def interrupted(**options):
        zygote = start(**options)
        signal.raise_signal(signal.SIGUSR1)
        return zygote

    monkeypatch.setattr(ZygoteClient, "start", interrupted)
    pipeline = Pipeline("p").add_task(Task("t", int))
    with pytest.raises(LateError):
        pipeline.run(executor="process", max_workers=1)
    assert not psutil.Process().children()


def test_a_handler_that_raises_while_handlers_are_taken_over_leaves_none_of_ours(heard, monkeypatch):
    """SIGINT is ours by then, and SIGUSR2 not yet."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    getsignal = _signal.getsignal

    def interrupted(number):
        if number == signal.SIGUSR2:
            heard.append(signal.getsignal(signal.SIGINT))
            raise LateError
        return getsignal(number)

    with monkeypatch.context() as once:
        once.setattr(_signal, "getsignal", interrupted)
        with pytest.raises(LateError):
            Interrupts().__enter__()
    assert heard != [before[signal.SIGINT]]
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


def test_one_of_ours_that_is_left_somewhere_does_what_the_users_would(heard, default_sigterm):
    with Interrupts():
        left = signal.getsignal(signal.SIGUSR2), signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGUSR2, left[0])
    signal.raise_signal(signal.SIGUSR2)
    assert heard == [signal.SIGUSR2]
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, left[1])
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_a_forked_child_hears_its_signals_at_once(heard):
    with Interrupts():
        child = os.fork()
        if not child:
            signal.raise_signal(signal.SIGUSR2)
            os._exit(len(heard))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_the_start_of_a_run_asks_nobodys_signal_to_stop_it(heard, monkeypatch):
    """A handler that raises then cancels the run whose handle nobody will have; others hear what is theirs."""
    handles = []
    init = RunHandle.__init__
    over = threading.Event()

    def interrupted(self, *args):
        init(self, *args)
        handles.append(self)
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGINT)

    first, second = Task("first", over.wait), Task("second", int)
    first.set_downstream(second)
    pipeline = Pipeline("p").add_task(first).add_task(second)
    monkeypatch.setattr(RunHandle, "__init__", interrupted)
    previous = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with pytest.raises(LateError):
            pipeline.start(executor="thread")
        assert set(heard) == {signal.SIGUSR1, signal.SIGINT}
        over.set()
        handles[0].wait()
        assert handles[0].result().status == "CANCELLED"
    finally:
        signal.signal(signal.SIGINT, previous)
