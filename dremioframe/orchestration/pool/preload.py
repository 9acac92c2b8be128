"""The user's ``preload`` modules, imported once in the fork server, and refused if they leave threads behind.

A thread does not survive a fork, but the locks it held do; a worker forked from a process with threads may hang in its
first import. So a module that leaves threads running is refused by name, rather than trusted.

While user code is imported here, nobody runs the fork server's loop, which is what ends everything when the coordinator
dies. A thread does that meanwhile, and limits the time that all this may take; it is gone before anything is forked.

Processes that a module has started are for all workers: they live as long as the fork server.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys
import threading
import time

from .. import failpoints
from . import kinship
from .refusal import Refusal, describe, story

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

#: Threads that are about to end when the import returns get so long.
_SETTLE_S = 1.0

#: The guard looks so often whether the import takes too long.
_LOOK_S = 0.5

_GUARD = "dremioframe-guard"


def preload(
    modules: Sequence[str], lifelines: tuple[int, ...], limit_s: float, give_up: Callable[[bytes], object]
) -> None:
    """Import these modules.

    Args:
        modules: Names, in order.
        lifelines: Descriptors that become readable, or hang up, when the coordinator is gone.
        limit_s: Seconds for all of them together.
        give_up: Called in another thread when these are over, with the story. Ends this process.

    Raises:
        Refusal: Naming the module; caused by what its import has raised, or it leaves threads running.
    """
    if not modules:
        return
    with _Guard(lifelines, limit_s, give_up) as guard:
        for name in modules:
            guard.importing = name
            try:
                importlib.import_module(name)
            except BaseException as error:
                raise Refusal(f"preload module {name!r} cannot be imported: {describe(error)}") from error
            # Two: this one and the guard.
            if not (_settles(2) or (failpoints.armed and failpoints.hit("preload.threads"))):
                raise Refusal(
                    f"preload module {name!r} leaves threads running ({_names()}), and a process with threads "
                    f"cannot be forked safely; take it out of preload"
                )
    if not (_settles(1) or (failpoints.armed and failpoints.hit("preload.threads"))):
        raise Refusal(f"a thread of this fork server does not end ({_names()})")


class _Guard:
    """Ends this process and its session when the coordinator dies, or the ``with`` block lasts too long.

    Attributes:
        importing: The module that takes so long.
    """

    def __init__(self, lifelines: tuple[int, ...], limit_s: float, give_up: Callable[[bytes], object]) -> None:
        self.importing = ""
        self._limit_s = limit_s
        self._give_up = give_up
        self._importer = threading.get_ident()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._poll = select.poll()
        coordinator, control = lifelines
        self._poll.register(coordinator, select.POLLIN)
        self._poll.register(control, 0)  # hang-up only: orders may be waiting there already
        self._poll.register(self._stop, select.POLLIN)
        self._thread = threading.Thread(target=self._watch, name=_GUARD, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        os.close(self._stop)

    def _watch(self) -> None:
        looks = self._limit_s / _LOOK_S  # counted, because all of us may be stopped meanwhile
        while not (heard := self._poll.poll(_LOOK_S * 1000)):
            looks -= 1
            if looks <= 0:
                self._give_up(self._story())
        if any(fd != self._stop for fd, _ in heard):
            os.killpg(0, signal.SIGKILL)

    def _story(self) -> bytes:
        why = f"preload module {self.importing!r} is not imported after {self._limit_s:g} s"
        return story(Refusal(why), sys._current_frames()[self._importer])  # noqa: SLF001 - its public name in the docs


def _settles(threads: int) -> bool:
    """Whether no more than so many threads are left, now or soon. The kernel has no event for the end of a thread."""
    deadline = time.monotonic() + _SETTLE_S
    while len(kinship.threads()) > threads:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.002)
    return True


def _names() -> str:
    """Python's threads by the names they have there, native ones by what the kernel calls them (``comm``)."""
    python = {thread.native_id: thread.name for thread in threading.enumerate()}
    names = [python.get(tid) or f"native thread {_comm(tid)!r}" for tid in kinship.threads() if tid != os.getpid()]
    return ", ".join(name for name in names if name != _GUARD)


def _comm(tid: int) -> str:
    try:
        with open(f"/proc/self/task/{tid}/comm", encoding="utf-8", errors="backslashreplace") as comm:
            return comm.read().strip()
    except (FileNotFoundError, ProcessLookupError):  # it has ended since
        return "?"
