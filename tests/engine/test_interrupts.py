"""Signal handlers: installed only where they belong, always taken back."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from dremioframe.orchestration import Pipeline, Task
from dremioframe.orchestration.engine.interrupts import Interrupts
from dremioframe.orchestration.pool import lifecycle, silence


@pytest.mark.parametrize("executor", ["process", "thread"])
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

    task = Task("t", in_thread) if executor == "thread" else Task("t", in_process, args=(str(started),))
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
    with Interrupts(install=True) as interrupts:
        interrupts.notify(lambda: bool(told.append(1)))
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert (interrupts.count, interrupts.first, len(told)) == (2, signal.SIGINT, 2)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        interrupts.deliver_again()


def test_raises_in_the_task_if_told_so():
    with Interrupts(install=True) as interrupts:
        interrupts.notify(lambda: True)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_an_ignored_signal_stays_ignored():
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts(install=True) as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert interrupts.count == 0
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_the_users_own_handler_gets_the_signal_again(default_sigterm):
    got = []
    signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    with Interrupts(install=True) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        assert got == []
    interrupts.deliver_again()
    assert got == [signal.SIGTERM]


def test_a9_not_in_other_threads():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def enter():
        with Interrupts(install=True):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]


def test_nothing_to_deliver():
    with Interrupts(install=False) as interrupts:
        pass
    interrupts.deliver_again()
