"""What must not be left half-done by Ctrl-C, or by a handler of the user's that raises: they are heard afterwards.

What lives here: taking the handlers of signals over, and giving them back whatever happens meanwhile. What may not:
what a signal means (``engine.interrupts`` knows some that ask for a stop).

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
    from types import FrameType, TracebackType
    from typing import Any, Self


class Undisturbed:
    """While this is entered no handler of a signal runs in the main thread; afterwards those run that would have.

    Of all signals that have a handler in Python: a user's may raise as well, as that of a time-out by SIGALRM does.
    Other threads are never interrupted. Should one of ours be left somewhere (the user's may raise while they come
    back, a task may have kept ours, a forked child inherits it), it does what the user's would do.

    Attributes:
        held: Numbers of the signals that have come and were not handed on.

    Example::

        with Undisturbed():
            ...
    """

    def __init__(self) -> None:
        self.held: list[int] = []
        self._taken: list[int] = []  # still in our hands
        self._ours: object = None  # what is in the place of the user's
        self._handlers: dict[int, Any] = {}  # the user's
        self._pid = 0

    def __enter__(self) -> Self:
        off = failpoints.armed and failpoints.hit("undisturbed.hold")
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
        self._let_go()

    def hand_on(self) -> None:
        """Call the user's handlers of what has come. They may raise; the rest stays for the next time."""
        while self.held:
            self._pass_on(self.held.pop(0), sys._getframe())  # noqa: SLF001 - documented

    def _take(self) -> None:
        self._ours = ours = self._on_signal
        for number in range(1, _signal.NSIG):
            previous = _signal.getsignal(number)
            if callable(previous) or self._takes(number, previous):
                self._handlers[number] = previous
                self._taken.append(number)
                _signal.signal(number, ours)

    def _takes(self, number: int, disposition: int | None) -> bool:
        """Whether a signal is wanted that has no handler in Python."""
        return False

    def _let_go(self) -> None:
        self._pid = 0  # from now on ours does what the user's would
        raised: BaseException | None = None
        while self._taken or self.held:
            try:
                self._give_back()
                self.hand_on()
            except BaseException as error:  # noqa: BLE001 - of a handler of the user's; the others come back too
                raised = raised or error
        self._ours = None
        try:
            if raised is not None:
                raise raised
        finally:
            del raised  # its traceback knows this frame

    def _give_back(self) -> None:
        while self._taken:
            number = self._taken[-1]
            if _signal.getsignal(number) is self._ours:  # else somebody has replaced it meanwhile
                _signal.signal(number, self._handlers[number])
            self._taken.pop()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid or not self._holds(number):
            self._pass_on(number, frame)
        elif number not in self.held:  # as the kernel has it: twice is once until it was heard
            self.held.append(number)

    def _holds(self, number: int) -> bool:
        """Whether the user's handler has to wait."""
        return True

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """As if we were not there."""
        handler = self._handlers[number]
        if callable(handler):
            handler(number, frame)
        else:  # the default, which is the kernel's to do
            _signal.signal(number, handler)
            os.kill(os.getpid(), number)
