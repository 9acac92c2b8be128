"""What must not be left half-done by a second Ctrl-C, or by a handler of the user's: they are heard afterwards.

What lives here: holding signals back for a moment. What may not: anything that lasts; what is done meanwhile has a
limit of its own.
"""

from __future__ import annotations

import signal
import threading

from .. import failpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any, Self


_FIXED = frozenset((signal.SIGKILL, signal.SIGSTOP))


class Undisturbed:
    """While this is entered no handler of a signal runs in the main thread; afterwards those run that would have.

    Of all signals that have a handler in Python: a user's may raise as well, as that of a time-out by SIGALRM does.
    Other threads are never interrupted.

    Example::

        with Undisturbed():
            ...
    """

    __slots__ = ("_heard", "_previous")

    def __init__(self) -> None:
        self._heard: list[int] = []
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        off = failpoints.armed and failpoints.hit("undisturbed.hold")
        if threading.get_ident() == threading.main_thread().ident and not off:
            for number in signal.valid_signals() - _FIXED:
                previous = signal.getsignal(number)
                if callable(previous):
                    self._previous[number] = previous
                    signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        heard, self._heard = self._heard, []
        for number in heard:
            signal.raise_signal(number)

    def _restore(self) -> None:
        try:
            while self._previous:
                number = next(iter(self._previous))
                signal.signal(number, self._previous[number])
                del self._previous[number]
        finally:
            if self._previous:  # one that is back already has raised
                self._restore()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._heard.append(number)
