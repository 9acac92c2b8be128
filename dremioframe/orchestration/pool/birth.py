"""The first steps of a worker, between the fork and its loop; and what of them can be done before the fork.

The order of the steps matters: first make sure to die with the zygote, then leave its session, only then say on the
status page who one is, receive anything and let user code (the initializer) run.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import signal

from .. import failpoints
from . import channel, dumps, frames, kinship, status_page, worker
from .frames import Kind
from .refusal import Refusal, describe, story
from .status_page import StatusPage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NamedTuple, NoReturn
else:
    from ..light_typing import NamedTuple

#: Ignored by every Python program from its start, so that writing to a closed pipe is an exception.
_IGNORED = frozenset((signal.SIGPIPE, signal.SIGXFSZ))
_FIXED = frozenset((signal.SIGKILL, signal.SIGSTOP))


class Newborn(NamedTuple):
    """What every worker is born with.

    Attributes:
        make_runner: The runner, loaded before the first fork so that no worker pays for its imports.
        initializer: Packed code to call once in each worker, or None.
        spill_dir: Where results go for which there is no memory; None to look for a directory then.
    """

    make_runner: Callable[[worker.Ports], worker.Run]
    initializer: bytes | None
    spill_dir: str | None


def prepare(runner: str, initializer: bytes | None, spill_dir: str | None) -> Newborn:
    """Load the runner, given as ``"module:attribute"``.

    Raises:
        Refusal: It cannot be imported.
    """
    module, _, attribute = runner.partition(":")
    try:
        return Newborn(getattr(importlib.import_module(module), attribute), initializer, spill_dir)
    except BaseException as error:
        raise Refusal(f"the runner {runner!r} cannot be imported: {describe(error)}") from error


def reset_signals() -> None:
    """Undo what preloaded modules may have done to signal handling. In the zygote, whose children inherit it."""
    faulthandler.disable()  # or it would take the handlers that are reset here for its own
    for signum in signal.valid_signals() - _FIXED:
        signal.signal(signum, signal.SIG_IGN if signum in _IGNORED else signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    # A worker has no terminal, so SIGINT can only be sent on purpose; raising KeyboardInterrupt between two calls would
    # end it. A function rather than SIG_IGN, because programs that a task starts would inherit that.
    signal.signal(signal.SIGINT, _disregard)


def live(
    newborn: Newborn, zygote_pid: int, incarnation: int, fds: tuple[int, ...], inherited: Iterable[int]
) -> NoReturn:
    """Become a worker. In the forked child, with all signals still blocked."""
    try:
        if failpoints.armed:
            failpoints.hit("birth.begin")
        if not kinship.die_with_parent(zygote_pid):
            os._exit(1)
        os.setsid()
        if not (failpoints.armed and failpoints.hit("birth.adopt_orphans")):
            kinship.adopt_orphans()
        inbox_fd, side_fd, page_fd = fds
        channel.close_all(list(inherited))
        inbox, side = channel.adopt(inbox_fd), channel.adopt(side_fd)
        try:
            page = StatusPage.attach(dumps.out_of_the_way(page_fd))
        except OSError as error:
            inbox.send(frames.pack(Kind.BOOT_FAILED, incarnation, body=story(error)))
            os._exit(1)
        page.slots[status_page.PID] = os.getpid()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        worker.become(incarnation, inbox, side, page, newborn.make_runner, newborn.initializer, newborn.spill_dir)
    except BaseException:  # noqa: BLE001 - nothing may return into the zygote's loop, which this still is a copy of
        import traceback

        traceback.print_exc()
    finally:
        os._exit(1)


def _disregard(signum: int, frame: object) -> None:
    """Do nothing."""
