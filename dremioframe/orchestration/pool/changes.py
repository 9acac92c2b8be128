"""Counts what Python code changes in a worker: directory, umask, time zone, signal handlers, timers, descriptors.

Asking the system for all of that after every call costs more than a small call does (ten microseconds, most of it
caches gone cold). The functions that change it are few, so they are replaced by ones that count and then do the same.
Native code that changes things behind Python's back is not seen here.

A function is replaced in the C module that it comes from and in the public one that shows it. What a module imported
earlier keeps for itself stays uncounted, so this comes first.

What lives here: the replacement, the count, and the exception of those who cannot undo a change. What may not: what is
done about one (``hygiene``, ``settings``, ``streams``).
"""

from __future__ import annotations

import os
import sys
from functools import update_wrapper
from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: C module, public module, functions.
_OFTEN = (
    (
        "posix",
        "os",
        ("chdir", "fchdir", "umask", "dup2", "close", "closerange", "set_blocking", "set_inheritable", "login_tty"),
    ),
    # Python's own signal.pthread_sigmask calls it by name.
    ("_signal", "signal", ("setitimer", "alarm", "pthread_sigmask")),
)

#: What these change cannot be seen afterwards: handlers in C, and whether system calls go on after a signal.
_HANDLERS = (
    ("_signal", "signal", ("signal", "siginterrupt")),  # Python's own signal.signal calls the one in C by name
    ("faulthandler", "faulthandler", ("enable", "disable", "register", "unregister")),
)

#: What this changes cannot be asked for.
_ZONE = (("time", "time", ("tzset",)),)

#: What these change is looked at apart, for it takes longer.
_SELDOM = (
    (
        "posix",
        "os",
        ("nice", "setpriority", "sched_setaffinity", "sched_setscheduler", "sched_setparam", "setgroups", "initgroups",
         "setuid", "seteuid", "setreuid", "setresuid", "setgid", "setegid", "setregid", "setresgid"),
    ),
    ("_signal", "signal", ("set_wakeup_fd",)),
    ("_socket", "socket", ("setdefaulttimeout",)),
    ("faulthandler", "faulthandler", ("dump_traceback_later",)),
    ("gc", "gc", ("enable", "disable", "set_threshold")),
    ("sys", "sys", ("setswitchinterval", "set_int_max_str_digits", "setdlopenflags")),
    ("_thread", "threading", ("stack_size",)),
)  # fmt: skip

#: Sets in which a function says what it can do.
_ABILITIES = ("supports_dir_fd", "supports_effective_ids", "supports_fd", "supports_follow_symlinks")


class NotCleaned(Exception):
    """Something could not be put back; the worker must not run another call."""


class Changes:
    """How many changes there have been, at least as far as can be seen from here."""

    count = 0
    seldom = 0  # those of them that are looked at apart
    handlers = 0  # those of signal handlers
    zone = 0  # those of the time zone
    on_handler: Callable[[], object] | None = None  # called after each of the latter


def watch() -> None:
    """From now on changes are counted. To be called before anything is imported that may keep a function for itself."""
    for kind, places in (
        (_Counting, _OFTEN),
        (_CountingHandlers, _HANDLERS),
        (_CountingSeldom, _SELDOM),
        (_CountingZone, _ZONE),
    ):
        for inner, outer, names in places:
            for name in names:
                _replace(kind, inner, outer, name)


def _replace(kind: type[_Counting], inner: str, outer: str, name: str) -> None:
    function = getattr(import_module(inner), name, None)
    if function is None or issubclass(type(function), _Counting):  # not on this system, or done already
        return
    counting = kind(function, outer)
    for module in {inner, outer} & sys.modules.keys():
        if getattr(sys.modules[module], name, None) is function:
            setattr(sys.modules[module], name, counting)
    for abilities in _ABILITIES:
        if function in getattr(os, abilities):
            getattr(os, abilities).add(counting)


class _Counting:
    """Stands for a function of C, and passes for one.

    No Python function, because that would be a descriptor: a class of the user's that holds ``os.close`` would pass
    itself to it.
    """

    __wrapped__: Callable[..., Any]
    __qualname__: str

    def __init__(self, function: Callable[..., Any], module: str) -> None:
        update_wrapper(self, function)
        self.__module__ = module  # so that it is pickled by the name under which it is found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        Changes.count += 1
        return self.__wrapped__(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["__wrapped__"], name)

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # what isinstance and inspect go by
        return type(self.__wrapped__)

    def __reduce__(self) -> str:
        return self.__qualname__

    def __repr__(self) -> str:
        return repr(self.__wrapped__)


class _CountingSeldom(_Counting):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        Changes.count += 1
        Changes.seldom += 1
        return self.__wrapped__(*args, **kwargs)


class _CountingZone(_Counting):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        Changes.zone += 1
        return super().__call__(*args, **kwargs)


class _CountingHandlers(_Counting):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        Changes.count += 1
        Changes.handlers += 1
        try:
            return self.__wrapped__(*args, **kwargs)
        finally:
            if Changes.on_handler is not None:
                Changes.on_handler()
