"""What must not be left half-done by a second Ctrl-C, or by a handler of the user's: they are heard afterwards.

What lives here: holding signals back for a moment. What may not: anything that lasts; what is done meanwhile has a
limit of its own.

``_signal`` is the C part of ``signal``; the Python part looks for an enum member at each call: 200 us for all signals.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed leaves it out
import threading

from .. import failpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any, Self


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
        self._heard: set[int] = set()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        off = failpoints.armed and failpoints.hit("undisturbed.hold")
        if threading.get_ident() == threading.main_thread().ident and not off:
            for number in range(1, _signal.NSIG):
                previous = _signal.getsignal(number)
                if callable(previous):
                    self._previous[number] = previous
                    _signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self._previous:
                number, previous = next(iter(self._previous.items()))
                _signal.signal(number, previous)
                del self._previous[number]
                if number in self._heard:
                    self._heard.remove(number)
                    _signal.raise_signal(number)
        finally:
            if self._previous:  # a handler that is back has raised; the others come back too, and hear what was theirs
                self.__exit__(kind, error, trace)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._heard.add(number)
