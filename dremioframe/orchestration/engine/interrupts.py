"""Signals while a run is going on: handlers wait until nothing of the engine is half done.

SIGINT, SIGTERM and SIGHUP ask for a stop: the first one with grace, the second at once. The loop learns of them at its
next turn, so no user code and no lock is ever touched from a handler. Signals that the user handles otherwise (a
time-out by SIGALRM that raises, say) wait for the same moment; where user code runs in this very thread they do not
wait. Handlers are taken over only in the main thread, and those for a stop only where the signal is not ignored
(``nohup``). They come back at the end, whatever happened. Should one of ours be left somewhere (the user's handlers may
raise while they come back, a task may have kept ours, a forked child inherits it), it does what the user's would do.

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
    """Signals received since it was entered.

    Args:
        stops: Whether SIGINT, SIGTERM and SIGHUP ask for a stop; if not, they are signals like all others.

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

    def __init__(self, *, stops: bool = True) -> None:
        self.count = 0
        self.first: int | None = None
        self.held: list[int] = []
        self._stops = _STOPS if stops else frozenset()
        self._taken: list[int] = []  # still in our hands
        self._ours: tuple[object, ...] = ()
        self._handlers: dict[int, Any] = {}  # the user's
        self._pid = 0
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
            self._pid = os.getpid()
            try:
                self._take()
            except BaseException:  # a handler that had not been taken yet has raised
                self._let_go()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._let_go()
        finally:
            self._deliver_stop()

    def _take(self) -> None:
        on_stop, on_other = self._on_stop, self._on_other
        self._ours = on_stop, on_other
        for number in range(1, _signal.NSIG):
            previous = _signal.getsignal(number)
            is_stop = number in self._stops
            if callable(previous) or (is_stop and _may_stop(previous)):
                self._handlers[number] = previous
                self._taken.append(number)
                _signal.signal(number, on_stop if is_stop else on_other)

    def _let_go(self) -> None:
        self._pid = 0  # from now on ours do what the user's would
        raised: BaseException | None = None
        while self._taken or self.held:
            try:
                self._give_back()
                self.hand_on()
            except BaseException as error:  # noqa: BLE001 - of a handler of the user's; the others come back too
                raised = raised or error
        self._ours = ()
        try:
            if raised is not None:
                raise raised
        finally:
            del raised  # its traceback knows this frame

    def _give_back(self) -> None:
        while self._taken:
            number = self._taken[-1]
            present = _signal.getsignal(number)
            if any(present is each for each in self._ours):  # else somebody has replaced it meanwhile
                _signal.signal(number, self._handlers[number])
            self._taken.pop()

    def _deliver_stop(self) -> None:
        """Let the first signal that asked for a stop have the effect it would have had without us.

        Raises:
            KeyboardInterrupt: It was SIGINT.
        """
        if self.first is None or (failpoints.armed and failpoints.hit("interrupts.deliver_again")):
            return
        if self.first == _signal.SIGINT:
            raise KeyboardInterrupt
        self._pass_on(self.first, sys._getframe())  # noqa: SLF001 - documented

    def notify(self, listener: Callable[..., bool]) -> None:
        """Call ``listener(stop=...)`` (signal-safe) at each signal; it says whether user code runs in this thread.

        If so, it sees the signal at once: as KeyboardInterrupt if it asks for a stop, otherwise by the user's handler.
        """
        self._notify = listener

    def hand_on(self) -> None:
        """Call the user's handlers of what has arrived. They may raise; the rest stays for the next time."""
        while self.held:
            self._pass_on(self.held.pop(0), sys._getframe())  # noqa: SLF001 - documented

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            self._pass_on(number, frame)
            return
        self.count += 1
        if self.first is None:
            self.first = number
        if self._notify is not None and self._notify(stop=True):
            raise KeyboardInterrupt

    def _on_other(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid or (self._notify is not None and self._notify(stop=False)):
            self._pass_on(number, frame)
        elif number not in self.held:  # as the kernel has it: twice is once until it was heard
            self.held.append(number)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """As if we were not there."""
        handler = self._handlers[number]
        if callable(handler):
            handler(number, frame)
        else:  # the default, which is the kernel's to do
            _signal.signal(number, handler)
            os.kill(os.getpid(), number)


def _may_stop(disposition: int | None) -> bool:
    if disposition is None:  # a handler that was not installed from Python, and could not be put back
        return False
    return disposition != _signal.SIG_IGN or bool(failpoints.armed and failpoints.hit("interrupts.ignored"))
