"""SIGINT, SIGTERM and SIGHUP while a run is going on.

The first signal asks for a stop with grace, the second for a stop at once; the loop learns of both at its next turn, so
no user code and no lock is ever touched from a handler. Handlers are installed only in the main thread and only where
the signal is not ignored (``nohup``), and the previous dispositions come back at the end, whatever happened.

What lives here: handlers and what they noted. What may not: deciding what a stop means.
"""

from __future__ import annotations

import os
import signal
import threading

from .. import failpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Any, Self

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupts:
    """Signals received since the run began.

    Attributes:
        count: How many; 2 or more means "at once".
        first: Number of the first one, or None.
    """

    def __init__(self, *, install: bool) -> None:
        """
        Args:
            install: False for a run that has no say over the process's signals (``start()``).
        """
        self.count = 0
        self.first: int | None = None
        self._install = install and threading.get_ident() == threading.main_thread().ident
        self._previous: dict[int, Any] = {}
        self._notify: Callable[[], bool] = bool

    @property
    def first_name(self) -> str:
        """Name of the first signal, e.g. ``"SIGINT"``; empty if there was none."""
        return "" if self.first is None else signal.Signals(self.first).name

    def __enter__(self) -> Self:
        if self._install and not (failpoints.armed and failpoints.hit("interrupts.install")):
            for name in _SIGNALS:
                number = getattr(signal, name, None)
                if number is None:
                    continue
                previous = signal.getsignal(number)
                # None: a handler that was not installed from Python; it could not be put back.
                ignored = previous is signal.SIG_IGN
                if failpoints.armed and failpoints.hit("interrupts.ignored"):
                    ignored = False
                if not ignored and previous is not None:
                    self._previous[number] = previous
                    signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous.clear()

    def notify(self, listener: Callable[[], bool]) -> None:
        """Call ``listener`` (signal-safe) at each signal; if it says so, KeyboardInterrupt is raised there."""
        self._notify = listener

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.first is None:
            self.first = number
        if self._notify():
            raise KeyboardInterrupt

    def deliver_again(self) -> None:
        """After the handlers are gone: let the signal have the effect it would have had without us.

        Raises:
            KeyboardInterrupt: The first signal was SIGINT.
        """
        if self.first is None or (failpoints.armed and failpoints.hit("interrupts.deliver_again")):
            return
        if self.first == signal.SIGINT:
            raise KeyboardInterrupt
        os.kill(os.getpid(), self.first)
