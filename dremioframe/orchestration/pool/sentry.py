"""The sentry: the fork server's parent, there for the case that the fork server itself is killed.

::

    coordinator --posix_spawn--> sentry --fork--> zygote --fork--> workers

Workers die with their zygote, the kernel sees to that, but what their tasks had started does not. It falls to the
next ancestor that adopts orphans: to this process, which kills whatever it has for a child until there is none, and
only then ends. So whoever waits for the sentry's end waits for the whole tree's. Zygote and sentry watch each other and
the coordinator; whichever of them is left cleans up. Only if both are killed can anything survive.

What lives here: that watch. What may not: anything that could fail or take memory; it sleeps for the life of a pool.
"""

from __future__ import annotations

import os
import select
import signal

from .. import failpoints
from . import kinship
from .boot import CONTROL_FD, COORDINATOR_FD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

#: When the coordinator is gone the zygote has so long to clean up, then it is taken for stopped or hung. If it was only
#: slow, no harm is done: what it had not come to is cleaned up here.
_CLEANING_S = 1.0


def leave_behind() -> int:
    """Go on in a child, which is the zygote; this process becomes the sentry. Gives a pidfd of the sentry."""
    sentry = os.pidfd_open(os.getpid())
    kinship.adopt_orphans()
    pid = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    zygote = os.fork()
    if zygote:
        _watch(zygote)
    if failpoints.armed:
        failpoints.hit("sentry.newborn")
    if not kinship.die_with_parent(pid):  # as long as it is busy booting, and hears of nothing
        os._exit(1)
    os.setsid()  # a zygote that gives up kills its whole group
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return sentry


def _watch(zygote: int) -> NoReturn:
    os.close(CONTROL_FD)  # its end is the zygote's end
    ended = os.pidfd_open(zygote)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    if not (failpoints.armed and failpoints.hit("sentry.coordinator")):
        poll.register(COORDINATOR_FD, select.POLLIN)
    if all(fd != ended for fd, _ in poll.poll()):
        poll.unregister(COORDINATOR_FD)
        poll.poll(_CLEANING_S * 1000)  # if it lives on it is ended as every child is
    # The wait is not to last: a debugger may hold what is left of it.
    exited = os.waitid(os.P_PID, zygote, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    kinship.end_children()
    if exited is not None and exited.si_code != os.CLD_EXITED:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.kill(os.getpid(), exited.si_status)  # so that the coordinator is told how the zygote ended
    os._exit(exited.si_status if exited is not None else 1)
