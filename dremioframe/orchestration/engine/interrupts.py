"""Signals while a run is going on: no handler runs in the middle of the engine, and none is forgotten.

SIGINT, SIGTERM and SIGHUP ask for a stop: the first one with grace, the second at once. The loop learns of them at its
next turn, so no user code and no lock is ever touched from a handler. Signals that the user handles otherwise (a
time-out by SIGALRM that raises, say) wait for the same moment, so that what they raise leaves nothing half done; where
user code runs in this very thread they do not wait. Handlers are taken over only in the main thread, and those for a
stop only where the signal is not ignored (``nohup``). All come back at the end, whatever happened, and what has not
been heard by then is heard.

What lives here: handlers and what they noted. What may not: deciding what a stop means.

``_signal`` is the C part of ``signal``; the Python part looks for an enum member at each call: 200 us for all signals.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed leaves it out
import os
import sys
import threading

from .. import failpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Any, Self

_STOPS = frozenset(
    number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(_signal, name, None)) is not None
)


class Interrupts:
    """Signals received since the run began.

    Attributes:
        count: How many asked for a stop; 2 or more means "at once".
        first: Number of the first one of these, or None.
        held: Numbers of the others that have not been handed on.

    Example::

        with Interrupts() as interrupts:
            ...
            if interrupts.held:
                interrupts.hand_on()
    """

    def __init__(self) -> None:
        self.count = 0
        self.first: int | None = None
        self.held: list[int] = []
        self._taken: dict[int, Any] = {}  # still in our hands
        self._handlers: dict[int, Any] = {}
        self._notify: Callable[..., bool] | None = None

    @property
    def first_name(self) -> str:
        """Name of the first signal that asked for a stop, e.g. ``"SIGINT"``; empty if there was none."""
        if self.first is None:
            return ""
        import signal

        return signal.Signals(self.first).name

    def __enter__(self) -> Self:
        off = failpoints.armed and failpoints.hit("interrupts.install")
        if threading.get_ident() == threading.main_thread().ident and not off:
            for number in range(1, _signal.NSIG):
                previous = _signal.getsignal(number)
                if callable(previous) or (number in _STOPS and _may_stop(previous)):
                    self._handlers[number] = self._taken[number] = previous
                    _signal.signal(number, self._on_stop if number in _STOPS else self._on_other)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._let_go()
        finally:
            self._deliver_stop()

    def _let_go(self) -> None:
        ours = (self._on_stop, self._on_other)
        try:
            while self._taken:
                number, previous = next(iter(self._taken.items()))
                if _signal.getsignal(number) in ours:  # else somebody has replaced it meanwhile
                    _signal.signal(number, previous)
                del self._taken[number]
            self.hand_on()
        finally:
            if self._taken or self.held:  # a handler has raised; the others come back too, and hear what was theirs
                self._let_go()

    def _deliver_stop(self) -> None:
        """Let the first signal have the effect it would have had without us.

        Raises:
            KeyboardInterrupt: It was SIGINT.
        """
        if self.first is None or (failpoints.armed and failpoints.hit("interrupts.deliver_again")):
            return
        if self.first == _signal.SIGINT:
            raise KeyboardInterrupt
        os.kill(os.getpid(), self.first)

    def notify(self, listener: Callable[..., bool]) -> None:
        """Call ``listener(stop=...)`` (signal-safe) at each signal; it says whether user code runs in this thread.

        If so, it sees the signal at once: as KeyboardInterrupt if it asks for a stop, otherwise by the user's handler.
        """
        self._notify = listener

    def hand_on(self) -> None:
        """Call the user's handlers of what has arrived. They may raise; the rest stays for the next time."""
        while self.held:
            self._handlers[number := self.held.pop(0)](number, sys._getframe())  # noqa: SLF001 - documented

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.first is None:
            self.first = number
        if self._notify is not None and self._notify(stop=True):
            raise KeyboardInterrupt

    def _on_other(self, number: int, frame: FrameType | None) -> None:
        if self._notify is not None and self._notify(stop=False):
            self._handlers[number](number, frame)
        elif number not in self.held:  # as the kernel has it: twice is once until it was heard
            self.held.append(number)


def _may_stop(disposition: int | None) -> bool:
    if disposition is None:  # a handler that was not installed from Python, and could not be put back
        return False
    return disposition != _signal.SIG_IGN or bool(failpoints.armed and failpoints.hit("interrupts.ignored"))
