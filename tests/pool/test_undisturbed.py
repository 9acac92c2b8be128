"""Holding an interrupt back, also where `threading` knows nothing of the thread."""

from __future__ import annotations

import _thread
import queue
import threading

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
