"""What writes the stacks of a worker: at a crash, and when the coordinator asks for them.

faulthandler does, in C, to a bare descriptor number. So that number is a high one: a task that closes all descriptors
and opens files gets low ones, and no stack is ever written into them. A child that a task forks writes nothing: its
crash is not the worker's.

What lives here: setting that up, once and again. What may not: who asks (``stopping``), and where it is read
(``status_page``).
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import resource

from .. import failpoints
from .termination import DUMP_SIGNAL

#: The number is to be about so high, if the limit of descriptors allows: few programs have as many open.
_HIGH = 1024
_BELOW_LIMIT = 16

# Bound now: a task may replace them, and changes of them are counted.
_enable, _disable = faulthandler.enable, faulthandler.disable
_register, _unregister = faulthandler.register, faulthandler.unregister


def out_of_the_way(fd: int) -> int:
    """The same file by a high number, if one is to be had; the given one is closed then."""
    if failpoints.armed and failpoints.hit("dumps.out_of_the_way"):
        return fd
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _HIGH if limit == resource.RLIM_INFINITY else min(limit, _HIGH)
    try:
        high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, max(0, limit - _BELOW_LIMIT))
    except OSError:  # none is left up there: the given one serves as well
        return fd
    os.close(fd)
    return high


def arm(fd: int) -> None:
    """Write stacks there, whatever handlers of these signals have been replaced meanwhile."""
    _disable()  # it takes a handler that it has set for one that is still there
    if not (failpoints.armed and failpoints.hit("worker.faulthandler")):
        _enable(file=fd)
    _unregister(DUMP_SIGNAL)
    _register(DUMP_SIGNAL, file=fd, all_threads=True, chain=False)


def disarm_in_children() -> None:
    """From now on children that this process forks write no stacks to the descriptor that they share with it."""
    if not (failpoints.armed and failpoints.hit("dumps.children")):
        os.register_at_fork(after_in_child=_disarm)


def _disarm() -> None:
    _disable()
    _unregister(DUMP_SIGNAL)
