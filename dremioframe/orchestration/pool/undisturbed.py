"""What must not be left half-done by a second Ctrl-C: it is heard afterwards.

What lives here: holding an interrupt back for a moment. What may not: anything that lasts; what is done meanwhile has a
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


class Undisturbed:
    """While this is entered SIGINT raises nothing in the main thread; afterwards it has the effect it would have had.

    Other threads are never interrupted.

    Example::

        with Undisturbed():
            ...
    """

    __slots__ = ("_heard", "_previous")

    def __init__(self) -> None:
        self._heard = False
        self._previous: Any = None

    def __enter__(self) -> Self:
        off = failpoints.armed and failpoints.hit("undisturbed.hold")
        if threading.get_ident() == threading.main_thread().ident and not off:
            previous = signal.getsignal(signal.SIGINT)
            if callable(previous):
                signal.signal(signal.SIGINT, self._hear)
                self._previous = previous
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None
        if self._heard:
            self._heard = False
            signal.raise_signal(signal.SIGINT)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._heard = True
