"""What a call may leave behind in its worker's process, put back before the next call.

Working directory, umask, environment, time zone, signal mask, signal handlers (faulthandler's, too), interval timers,
recursion limit, trace and profile functions, standard streams with their descriptors (``streams``), and what is seldom
changed (``settings``). Threads are counted by the worker, which ends itself when they have grown. What is not put back
(module globals, ``sys.path``, locale, resource limits, warning filters, ...) is documented as such.
What only the kernel knows of costs the worker (``remains``).

Looking at everything costs more than a small call does, so this is done where there is reason to:

- Python's functions that change such things count their calls (``changes``), and ``os.environ`` counts its changes: a
  different count means that everything is put back;
- so does a call that took long enough for the cost not to matter, because native code is not counted;
- streams, the recursion limit and trace functions are compared every time: that costs next to nothing, except for the
  three standard descriptors (1 us), which a file object can close without any function that could be counted.

What lives here: state of the process. What may not: channels and calls.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

# The public twins wrap every answer in an enum: 35 us for the handlers of all signals instead of 1.5.
from _signal import getsignal, pthread_sigmask  # type: ignore[import-not-found]

from .. import failpoints
from . import changes, dumps, remains
from .changes import Changes, NotCleaned
from .settings import Settings
from .streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SIGNALS = tuple(sorted(signum for signum in signal.valid_signals() if signum not in (signal.SIGKILL, signal.SIGSTOP)))
_REAL, _VIRTUAL, _PROF = int(signal.ITIMER_REAL), int(signal.ITIMER_VIRTUAL), int(signal.ITIMER_PROF)

# Bound now: a task may replace any of these in their modules, and this code runs after it.
_chdir, _getcwd, _umask = os.chdir, os.getcwd, os.umask
_set_timer, _set_handler = signal.setitimer, signal.signal
_tzset = time.tzset
_SIG_SETMASK = int(signal.SIG_SETMASK)
_get_recursion_limit, _set_recursion_limit = sys.getrecursionlimit, sys.setrecursionlimit
_get_trace, _set_trace, _get_profile, _set_profile = sys.gettrace, sys.settrace, sys.getprofile, sys.setprofile
_get_thread_trace, _set_thread_trace = threading.gettrace, threading.settrace
_get_thread_profile, _set_thread_profile = threading.getprofile, threading.setprofile

#: After a call that took longer than this everything is put back, whatever was counted.
_LOOK_AFTER_NS = 250_000

#: And after this even what is seldom changed.
_LOOK_CLOSER_AFTER_NS = 1_000_000


class _CountingEnviron(type(os.environ)):  # type: ignore[misc]
    """``os.environ`` that knows how often it was changed. Counted apart: comparing all variables takes long."""

    changes = 0

    def __setitem__(self, key: Any, value: Any) -> None:
        _CountingEnviron.changes += 1
        super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        _CountingEnviron.changes += 1
        super().__delitem__(key)


class Hygiene:
    """The state that every call of a worker finds. Created once per worker, when it is ready for its first call."""

    __slots__ = (
        "_changes",
        "_cwd",
        "_dump_fd",
        "_environ",
        "_environ_changes",
        "_environment",
        "_handler_changes",
        "_handlers",
        "_mask",
        "_pid",
        "_profile",
        "_recursion",
        "_seldom",
        "_settings",
        "_streams",
        "_thread_profile",
        "_thread_trace",
        "_trace",
        "_umask",
        "_zone_changes",
    )

    def __init__(self, dump_fd: int) -> None:
        """
        Args:
            dump_fd: Where faulthandler writes.
        """
        changes.watch()
        self._dump_fd = dump_fd
        self._pid = os.getpid()
        self._handler_changes = Changes.handlers
        os.environ.__class__ = os.environb.__class__ = _CountingEnviron  # two views of the same variables
        self._environ = os.environ
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._mask = pthread_sigmask(signal.SIG_BLOCK, ())
        self._handlers = list(map(getsignal, _SIGNALS))
        self._recursion = sys.getrecursionlimit()
        self._trace, self._profile = sys.gettrace(), sys.getprofile()
        self._thread_trace: Any = threading.gettrace()  # None for none, which the stubs do not know
        self._thread_profile: Any = threading.getprofile()
        self._streams = Streams()
        self._settings = Settings()
        self._seldom = Changes.seldom
        self.rebase()

    def rebase(self) -> None:
        """Directory and environment were changed on purpose: they are what later calls are to find."""
        self._cwd = _cwd()
        self._environment = dict(os.environ)
        self._environ_changes = _CountingEnviron.changes
        self._changes = Changes.count
        self._zone_changes = Changes.zone

    def flush(self) -> None:
        """Write out what the call has printed."""
        self._streams.flush()

    def clean(self, wall_ns: int) -> None:
        """Put back what a call has left different.

        Args:
            wall_ns: How long the call took.

        Raises:
            NotCleaned: Something could not be; the text says what.
        """
        if Changes.count != self._changes or wall_ns > _LOOK_AFTER_NS:
            self._restore(wall_ns)
        elif not self._streams.are_as_found():
            self._streams.restore()
        if os.environ is not self._environ or _CountingEnviron.changes != self._environ_changes:
            self._restore_environment()
        if _get_recursion_limit() != self._recursion and not (
            failpoints.armed and failpoints.hit("hygiene.recursion_limit")
        ):
            _set_recursion_limit(self._recursion)
        if _get_trace() is not self._trace:
            _set_trace(self._trace)
        if _get_profile() is not self._profile:
            _set_profile(self._profile)
        if _get_thread_trace() is not self._thread_trace:
            _set_thread_trace(self._thread_trace)
        if _get_thread_profile() is not self._thread_profile:
            _set_thread_profile(self._thread_profile)

    def _restore(self, wall_ns: int) -> None:
        """Put everything back that may have changed unseen. Setting it anew is as cheap as asking for it."""
        if not (failpoints.armed and failpoints.hit("hygiene.signals")):
            self._restore_signals()
        self._streams.restore()
        if not (failpoints.armed and failpoints.hit("hygiene.directory")):
            self._restore_directory()
        if wall_ns > _LOOK_AFTER_NS:  # none has left a process in less
            remains.check_children(self._pid)
        if Changes.zone != self._zone_changes:  # TZ itself comes next, if that was changed
            _look_at_zone()
            self._zone_changes = Changes.zone
        if Changes.seldom != self._seldom or wall_ns > _LOOK_CLOSER_AFTER_NS:
            if not (failpoints.armed and failpoints.hit("hygiene.settings")):
                self._settings.restore()
            self._seldom = Changes.seldom
        self._changes = Changes.count  # putting back has counted too

    def _restore_signals(self) -> None:
        pthread_sigmask(_SIG_SETMASK, self._mask)
        _set_timer(_REAL, 0)
        _set_timer(_VIRTUAL, 0)
        _set_timer(_PROF, 0)
        if list(map(getsignal, _SIGNALS)) != self._handlers:
            self._restore_handlers()
        if Changes.handlers != self._handler_changes and not (
            failpoints.armed and failpoints.hit("hygiene.handlers_unseen")
        ):
            self._restore_unseen_handlers()
        self._handler_changes = Changes.handlers

    def _restore_handlers(self) -> None:
        for signum, now, before in zip(_SIGNALS, map(getsignal, _SIGNALS), self._handlers, strict=True):
            if now is before or now == before:
                continue
            if before is None:  # set by native code before the first call, and Python cannot set it again
                raise NotCleaned(f"the handler of signal {signum} was replaced")
            _set_handler(signum, before)

    def _restore_unseen_handlers(self) -> None:
        """Those of C, which look to Python like none, and those that were told to let system calls go on."""
        dumps.arm(self._dump_fd)
        for signum, handler in zip(_SIGNALS, self._handlers, strict=True):
            if callable(handler) and not isinstance(handler, int):
                _set_handler(signum, handler)

    def _restore_environment(self) -> None:
        os.environ = self._environ  # noqa: B003 - put back if the task had replaced it
        if not (failpoints.armed and failpoints.hit("hygiene.environment")):
            set_environment(self._environment)
        self._environ_changes = _CountingEnviron.changes

    def _restore_directory(self) -> None:
        _umask(self._umask)
        if self._cwd is None or _cwd() == self._cwd:  # None: it did not exist then either
            return
        try:
            _chdir(self._cwd)
        except OSError as error:
            raise NotCleaned(f"cannot return to {self._cwd!r}: {error}") from error


def set_environment(environ: dict[str, str]) -> None:
    """Make ``os.environ`` equal to ``environ`` with as few changes as possible: each one calls ``putenv``."""
    zone = os.environ.get("TZ")
    for name in [name for name in os.environ if name not in environ]:
        del os.environ[name]
    for name, value in environ.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    if environ.get("TZ") != zone:
        _look_at_zone()


def _look_at_zone() -> None:
    """The time zone is what TZ was when somebody last looked there, whatever TZ is."""
    if not (failpoints.armed and failpoints.hit("hygiene.time_zone")):
        _tzset()


def _cwd() -> str | None:
    try:
        return _getcwd()
    except FileNotFoundError:
        return None
