"""What a call may leave that only the kernel knows of: POSIX timers, and children that have ended unseen.

Python has no functions for the former, and the latter are not the worker's own: it adopts what its tasks' children
leave behind, and must wait for none of them, for a task may still want to know how its own children end. Each keeps a
process id for itself as long as the worker lives. So both cost the worker.

What lives here: looking. What may not: when that is done (``hygiene``).
"""

from __future__ import annotations

import os

from .. import failpoints
from .changes import NotCleaned

_READ_BYTES = 65_536

#: So many ended children are nobody's loss.
_ENDED_MOST = 100

# Bound now: a task may replace any of these in their modules, and this code runs after it.
_open, _os_read, _close, _waitid = os.open, os.read, os.close, os.waitid
_P_ALL, _P_PID, _LOOK = os.P_ALL, os.P_PID, os.WEXITED | os.WNOHANG | os.WNOWAIT


def timers() -> bytes:
    """The POSIX timers of this process as the kernel lists them; nothing if it does not (CONFIG_CHECKPOINT_RESTORE)."""
    return b"" if failpoints.armed and failpoints.hit("remains.timers") else _read("/proc/self/timers")


def check_children(pid: int) -> None:
    """See that not too many have ended.

    Args:
        pid: Of this process.

    Raises:
        NotCleaned: They have.
    """
    if not _has_ended(_P_ALL, 0) or (failpoints.armed and failpoints.hit("remains.children")):
        return
    children = _read(f"/proc/self/task/{pid}/children").split()
    if len(children) > _ENDED_MOST and sum(_has_ended(_P_PID, int(child)) for child in children) > _ENDED_MOST:
        raise NotCleaned("too many children of its tasks have ended, and nobody waits for them")


def _has_ended(kind: int, pid: int) -> bool:
    try:
        return _waitid(kind, pid, _LOOK) is not None
    except ChildProcessError:
        return False


def _read(path: str) -> bytes:
    """By the bare calls: a file object costs as much again."""
    try:
        fd = _open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # this kernel has no such file, or no descriptor is left
        return b""
    try:
        parts = []
        while part := _os_read(fd, _READ_BYTES):
            parts.append(part)
        return b"".join(parts)
    finally:
        _close(fd)
