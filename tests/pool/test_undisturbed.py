"""Holding an interrupt back, also where `threading` knows nothing of the thread."""

from __future__ import annotations

import _thread
import queue
import signal
import threading

import pytest

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task
from dremioframe.orchestration.pool.lifecycle import Lifecycle
from dremioframe.orchestration.pool.undisturbed import Undisturbed


def test_a_thread_that_threading_did_not_start_stays_unknown_to_it() -> None:
    """Asking for the current thread would enter a dummy for it, which stays for as long as the process."""
    before = {thread.ident for thread in threading.enumerate()}
    news: queue.SimpleQueue[set[int | None]] = queue.SimpleQueue()

    def close_something() -> None:
        with Undisturbed():
            news.put({thread.ident for thread in threading.enumerate()})

    _thread.start_new_thread(close_something, ())
    assert news.get() == before


class LateError(Exception):
    """What the user's handler raises."""


@pytest.fixture
def raising_handler():
    def raise_late(number, frame):
        raise LateError

    previous = signal.signal(signal.SIGUSR1, raise_late)
    yield
    signal.signal(signal.SIGUSR1, previous)


def test_all_handlers_wait_and_are_back_afterwards(raising_handler):
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    done = []

    def disturbed():
        with Undisturbed():
            signal.raise_signal(signal.SIGUSR1)
            done.append("all of it")

    with pytest.raises(LateError):
        disturbed()
    assert done
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


def test_a_handler_that_raises_while_a_run_is_closed_costs_the_next_run_nothing(raising_handler, monkeypatch):
    """As a time-out by signal does. The worker was being given back; it would have been nobody's for ever."""
    dismiss = Lifecycle.dismiss

    def interrupted(self, worker):
        signal.raise_signal(signal.SIGUSR1)
        dismiss(self, worker)

    pipeline = Pipeline("p").add_task(Task("t", int))
    with ProcessExecutor(max_workers=1) as executor:
        with monkeypatch.context() as once:
            once.setattr(Lifecycle, "dismiss", interrupted)
            with pytest.raises(LateError):
                pipeline.run(executor=executor)
        assert pipeline.run(executor=executor, timeout=60)["t"] == 0


def test_each_signal_is_heard_though_the_handler_of_another_raises(raising_handler):
    heard = []
    previous = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    try:

        def disturbed():
            with Undisturbed():
                for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
                    signal.raise_signal(number)

        with pytest.raises(LateError):
            disturbed()
    finally:
        signal.signal(signal.SIGUSR2, previous)
    assert heard == [signal.SIGUSR2]
