"""SIGINT and SIGTERM while a schedule blocks the main thread: they become news for it.

What lives here: which signals these are, and what is made of them. What may not: what a schedule does about one, and
how handlers are taken and given back (``pool.undisturbed``). Loaded on demand only, by ``schedule``.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from .pool.undisturbed import Undisturbed

if TYPE_CHECKING:
    from queue import SimpleQueue
    from types import FrameType

_ENDS = frozenset({signal.SIGINT, signal.SIGTERM})


class Listening(Undisturbed):
    """While this is entered signals that end a schedule are put into its queue; all others do what they always do.

    Not those that are ignored, or whose handlers are not Python's and could not be put back.
    """

    def __init__(self, news: SimpleQueue[int]) -> None:
        super().__init__()
        self._news = news  # its put() is safe in a signal handler

    def _takes(self, number: int, disposition: int | None) -> bool:
        return number in _ENDS and disposition not in {signal.SIG_IGN, None}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number in _ENDS and os.getpid() == self._pid:
            self._news.put(number)
        else:
            super()._on_signal(number, frame)

    def _holds(self, number: int) -> bool:
        return False
