"""Signals while a run is going on: handlers wait until nothing of the engine is half done.

SIGINT, SIGTERM and SIGHUP ask for a stop: the first one with grace, the second at once. The loop learns of them at its
next turn, so no user code and no lock is ever touched from a handler. Signals that the user handles otherwise (a
time-out by SIGALRM that raises, say) wait for the same moment; where user code runs in this very thread they do not
wait. Handlers are taken over only in the main thread, and those for a stop only where the signal is not ignored
(``nohup``).

What lives here: which signals ask for a stop, and who is told. What may not: how handlers are taken and given back
(``pool.undisturbed``), deciding what a stop means.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed leaves it out
import os
import sys

from .. import failpoints
from ..errors import OrchestrationError
from ..pool.undisturbed import Undisturbed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Self

_STOPS = frozenset(
    number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(_signal, name, None)) is not None
)


class Interrupts(Undisturbed):
    """Signals received since it was entered.

    Attributes:
        count: How many asked for a stop; 2 or more means "at once".
        first: Number of the first one of these, or None.

    Example::

        with Interrupts() as interrupts:
            ...
            if interrupts.held:
                interrupts.hand_on()
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.first: int | None = None
        self._notify: Callable[..., bool] | None = None

    @property
    def first_name(self) -> str:
        """Name of the first signal that asked for a stop, e.g. ``"SIGINT"``; empty if there was none."""
        if self.first is None:
            return ""
        import signal

        return signal.Signals(self.first).name

    def __enter__(self) -> Self:
        if failpoints.armed and failpoints.hit("interrupts.install"):
            return self
        try:
            return super().__enter__()
        except ValueError as error:  # the main thread, and no handler may be set
            raise OrchestrationError(f"a pipeline cannot run in a sub-interpreter: {error}") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._let_go()
        finally:
            self._deliver_stop()

    def notify(self, listener: Callable[..., bool]) -> None:
        """Call ``listener(stop=...)`` (signal-safe) at each signal; it says whether user code runs in this thread.

        If so, it sees the signal at once: as KeyboardInterrupt if it asks for a stop, otherwise by the user's handler.
        """
        self._notify = listener

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

    def _takes(self, number: int, disposition: int | None) -> bool:
        if number not in _STOPS or disposition is None:  # None: not installed from Python; it could not be put back
            return False
        return disposition != _signal.SIG_IGN or bool(failpoints.armed and failpoints.hit("interrupts.ignored"))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number not in _STOPS or os.getpid() != self._pid:
            super()._on_signal(number, frame)
            return
        self.count += 1
        if self.first is None:
            self.first = number
        if self._notify is not None and self._notify(stop=True):
            raise KeyboardInterrupt

    def _holds(self, number: int) -> bool:
        return self._notify is None or not self._notify(stop=False)
