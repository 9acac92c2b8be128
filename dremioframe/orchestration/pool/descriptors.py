"""Room for descriptors: the soft limit, raised while a pool is open and put back afterwards.

A worker costs the coordinator seven descriptors and a large result one; the usual soft limit of 1,024 is about programs
that use ``select``, which cannot be asked of descriptors above it. Only the coordinator's limit is raised: the zygote
gets the one that was there before.
"""

from __future__ import annotations

import resource
import threading

_WANTED = 65_536

_lock = threading.Lock()
_users = 0
_before: tuple[int, int] | None = None
_raised: tuple[int, int] | None = None


def acquire() -> int:
    """Raise the soft limit to what is useful; returns the one that was there before the first pool."""
    global _users, _before, _raised  # noqa: PLW0603 - the limit is the process's, and so is the count of its users
    with _lock:
        _users += 1
        if _before is None:
            _before = resource.getrlimit(resource.RLIMIT_NOFILE)
            _set(min(_before[1], _WANTED) if _before[1] != resource.RLIM_INFINITY else _WANTED, _before)
            _raised = resource.getrlimit(resource.RLIMIT_NOFILE)
        return _before[0]


def release() -> None:
    """Put the limit back with the last user, unless somebody else has changed it meanwhile."""
    global _users, _before  # noqa: PLW0603 - see acquire
    with _lock:
        _users -= 1
        if _users == 0 and _before is not None:
            if resource.getrlimit(resource.RLIMIT_NOFILE) == _raised:
                resource.setrlimit(resource.RLIMIT_NOFILE, _before)
            _before = None


def _set(soft: int, before: tuple[int, int]) -> None:
    if before[0] != resource.RLIM_INFINITY and soft > before[0]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
