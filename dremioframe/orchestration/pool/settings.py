"""What a call may set for the whole process and seldom does.

Looked at after calls of functions that set such a thing, and after calls that took long. What cannot be put back, or
not always (who the process is, and how it is scheduled), costs the worker: a new one is born with all of it in order.

What lives here: those settings and putting them back. What may not: when that is done (``hygiene``).
"""

from __future__ import annotations

import _socket
import _thread
import faulthandler
import gc
import os
import signal
import sys

from . import remains
from .changes import NotCleaned

# Bound now: a task may replace any of these in their modules, and this code runs after it.
_get_affinity, _set_affinity = os.sched_getaffinity, os.sched_setaffinity
_get_priority, _get_scheduler = os.getpriority, os.sched_getscheduler
_get_users, _get_groups, _get_all_groups = os.getresuid, os.getresgid, os.getgroups
_get_timeout, _set_timeout = _socket.getdefaulttimeout, _socket.setdefaulttimeout
_get_interval, _set_interval = sys.getswitchinterval, sys.setswitchinterval
_get_digits, _set_digits = sys.get_int_max_str_digits, sys.set_int_max_str_digits
_get_dl_flags, _set_dl_flags, _stack_size = sys.getdlopenflags, sys.setdlopenflags, _thread.stack_size
_is_collecting, _collect, _collect_not = gc.isenabled, gc.enable, gc.disable
_get_threshold, _set_threshold = gc.get_threshold, gc.set_threshold
_set_wakeup_fd, _cancel_dump = signal.set_wakeup_fd, faulthandler.cancel_dump_traceback_later
_PRIO_PROCESS = os.PRIO_PROCESS


class Settings:
    """The settings that every call of a worker finds."""

    __slots__ = ("_affinity", "_collecting", "_digits", "_dl_flags", "_identity", "_interval", "_stack_size",
                 "_threshold", "_timeout", "_timers", "_wakeup_fd")  # fmt: skip

    def __init__(self) -> None:
        self._identity = _identity()
        self._affinity = _get_affinity(0)
        self._wakeup_fd = _set_wakeup_fd(-1)
        _set_wakeup_fd(self._wakeup_fd)
        self._collecting, self._threshold = _is_collecting(), _get_threshold()
        self._interval, self._timeout = _get_interval(), _get_timeout()
        self._digits, self._dl_flags, self._stack_size = _get_digits(), _get_dl_flags(), _stack_size()
        self._timers = remains.timers()

    def restore(self) -> None:
        """Put them back.

        Raises:
            NotCleaned: One of them cannot be.
        """
        if _identity() != self._identity:
            raise NotCleaned("user, groups, priority or scheduling of the worker were changed")
        if remains.timers() != self._timers:
            raise NotCleaned("a POSIX timer was left running, and only who has made it can end it")
        if _get_affinity(0) != self._affinity:
            _set_affinity(0, self._affinity)
        _set_wakeup_fd(self._wakeup_fd)
        _cancel_dump()
        if _is_collecting() != self._collecting:
            (_collect if self._collecting else _collect_not)()
        if _get_threshold() != self._threshold:
            _set_threshold(*self._threshold)
        if _get_interval() != self._interval:
            _set_interval(self._interval)
        if _get_timeout() != self._timeout:
            _set_timeout(self._timeout)
        if _get_digits() != self._digits:
            _set_digits(self._digits)
        if _get_dl_flags() != self._dl_flags:
            _set_dl_flags(self._dl_flags)
        if _stack_size() != self._stack_size:  # of threads that are yet to start
            _stack_size(self._stack_size)


def _identity() -> tuple[object, ...]:
    return (_get_users(), _get_groups(), _get_all_groups(), _get_priority(_PRIO_PROCESS, 0), _get_scheduler(0))
