"""Workers whose zygote has died, and what their tasks have started: nobody else ends these now.

The kernel kills the workers, and the sentry what they leave; but somebody may have killed the sentry, too.

What lives here: finding and ending them. What may not: what their end means for their calls (``lifecycle``).
"""

from __future__ import annotations

import os
import time

from .. import failpoints
from . import kinship, termination

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .worker_handle import WorkerHandle

#: How often it is looked for what is left of a session, and the pause where that could not be done.
_SWEEPS = 20
_SWEEP_AGAIN_S = 0.05


def end_orphans(workers: Sequence[WorkerHandle], parents: frozenset[int]) -> None:
    """End these workers and their sessions.

    Args:
        parents: Process ids of which one is their parent's: the zygote's, and its sentry's.

    Raises:
        OSError: There was no descriptor to look by.
    """
    for worker in workers:
        worker.find_process(parents)
        if worker.pidfd >= 0:
            termination.kill(worker.pidfd)
    _kill_sessions(frozenset(worker.pid for worker in workers if worker.pidfd >= 0) - {0, os.getsid(0)})


def _kill_sessions(sessions: frozenset[int]) -> None:
    """End all processes of these sessions, whose parent, the zygote, is dead.

    Each is opened first and looked at again afterwards, so a number that was given to a stranger meanwhile is spared.
    Asked again until none is left, because they may fork; a bounded number of times, because they may never die.

    Raises:
        OSError: For a second there was no descriptor to look by.
    """
    if failpoints.armed and failpoints.hit("orphans.sessions"):
        return
    for left in reversed(range(_SWEEPS)):
        try:
            members = kinship.session_members(sessions)
            for pid in members:
                _kill_member(pid, sessions)
        except OSError:
            if not left:
                raise
            time.sleep(_SWEEP_AGAIN_S)
        else:
            if not members:
                return


def _kill_member(pid: int, sessions: frozenset[int]) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        stat = kinship.read_stat(pid)
        if stat is not None and stat[1] in sessions:
            termination.kill(pidfd)
    finally:
        os.close(pidfd)
