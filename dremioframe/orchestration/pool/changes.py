"""Counts what Python code changes in a worker: directory, umask, signal handlers and masks, timers, descriptors.

Asking the system for all of that after every call costs more than a small call does (ten microseconds, most of it
caches gone cold). The functions that change it are few, so they are replaced by ones that count and then do the same.
Native code that changes things behind Python's back is not seen here.

What lives here: the replacement and the count. What may not: what is done about a change (``hygiene``).
"""

from __future__ import annotations

import os
import signal
from functools import wraps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

_WATCHED: tuple[tuple[ModuleType, tuple[str, ...]], ...] = (
    (os, ("chdir", "fchdir", "umask", "dup2", "close", "closerange")),
    (signal, ("signal", "setitimer", "alarm", "pthread_sigmask")),
)


_MARK = "_dremioframe_counts_changes"


class Changes:
    """How many changes there have been, at least as far as can be seen from here."""

    count = 0


def watch() -> None:
    """From now on changes are counted. To be called before anything is imported that may keep a function for itself."""
    for module, names in _WATCHED:
        for name in names:
            function = getattr(module, name)
            if not hasattr(function, _MARK):
                setattr(module, name, _counting(function, module.__name__))


def _counting(function: Callable[..., Any], module: str) -> Callable[..., Any]:
    @wraps(function)
    def counting(*args: Any, **kwargs: Any) -> Any:
        Changes.count += 1
        return function(*args, **kwargs)

    setattr(counting, _MARK, True)
    counting.__module__ = module  # so that it is pickled by the name under which it is found
    return counting
