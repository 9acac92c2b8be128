"""Python's garbage collector while runs over processes are under way: it looks less often.

A run makes some objects per task that stay, and none of them in cycles. By default the collector goes through the young
ones after every 700, which takes a fifth of the coordinator's time. User code does not run in this process meanwhile,
except in other threads, which can live with a collection per 50,000 objects.

What lives here: the setting, which belongs to the process, and the count of its users. What may not: collecting.
"""

from __future__ import annotations

import gc
import threading

_YOUNG = 50_000

_lock = threading.Lock()
_users = 0
_before: tuple[int, int, int] | None = None


def relax() -> None:
    """Begin to collect less often; what was set before comes back with the last :func:`restore`."""
    global _users, _before  # noqa: PLW0603 - the setting belongs to the process, and so does the count of its users
    with _lock:
        _users += 1
        thresholds = gc.get_threshold()
        if _users == 1 and 0 < thresholds[0] < _YOUNG:  # 0 means never, and is the user's decision
            _before = thresholds
            gc.set_threshold(_YOUNG, *thresholds[1:])


def restore() -> None:
    """One user less."""
    global _users, _before  # noqa: PLW0603 - see relax
    with _lock:
        _users -= 1
        if _users == 0 and _before is not None:
            if gc.get_threshold()[0] == _YOUNG:  # or the user has set another meanwhile
                gc.set_threshold(*_before)
            _before = None
