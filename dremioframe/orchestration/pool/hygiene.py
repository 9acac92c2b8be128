"""What a call may leave behind in its worker's process, put back before the next call.

Working directory, umask, environment, signal mask, signal handlers, interval timers, recursion limit, trace and profile
functions, and standard streams with their descriptors. Threads are counted by the worker, which ends itself when they
have grown. What is not put back (module globals, ``sys.path``, locale, resource limits, warning filters) is documented
as such.

Looking at everything costs more than a small call does, so this is done where there is reason to:

- Python's functions that change such things count their calls (``changes``), and ``os.environ`` counts its changes: a
  different count means that everything is put back;
- so does a call that took long enough for the cost not to matter, because native code is not counted;
- streams, the recursion limit and trace functions are compared every time, for that costs next to nothing.

What lives here: state of the process. What may not: channels and calls.
"""

from __future__ import annotations

import os
import signal
import sys

# The public twins wrap every answer in an enum: 35 us for the handlers of all signals instead of 1.5.
from _signal import getsignal, pthread_sigmask  # type: ignore[import-not-found]

from ..payload.guard import class_name
from . import changes
from .changes import Changes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

_SIGNALS = tuple(sorted(signum for signum in signal.valid_signals() if signum not in (signal.SIGKILL, signal.SIGSTOP)))
_REAL, _VIRTUAL, _PROF = int(signal.ITIMER_REAL), int(signal.ITIMER_VIRTUAL), int(signal.ITIMER_PROF)

# Bound now: a task may replace any of these in their modules, and this code runs after it.
_chdir, _getcwd, _umask, _dup2 = os.chdir, os.getcwd, os.umask, os.dup2
_open = open
_set_timer, _set_handler = signal.setitimer, signal.signal
_SIG_SETMASK = int(signal.SIG_SETMASK)
_get_recursion_limit, _set_recursion_limit = sys.getrecursionlimit, sys.setrecursionlimit
_get_trace, _set_trace, _get_profile, _set_profile = sys.gettrace, sys.settrace, sys.getprofile, sys.setprofile


#: After a call that took longer than this everything is put back, whatever was counted.
_LOOK_AFTER_NS = 250_000


class _CountingEnviron(type(os.environ)):  # type: ignore[misc]
    """``os.environ`` that knows how often it was changed. Counted apart: comparing all variables takes long."""

    changes = 0

    def __setitem__(self, key: Any, value: Any) -> None:
        _CountingEnviron.changes += 1
        super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        _CountingEnviron.changes += 1
        super().__delitem__(key)


class NotCleaned(Exception):
    """Something could not be put back; the worker must not run another call."""


class Hygiene:
    """The state that every call of a worker finds. Created once per worker, when it is ready for its first call."""

    __slots__ = (
        "_changes",
        "_cwd",
        "_environ",
        "_environ_changes",
        "_environment",
        "_err",
        "_handlers",
        "_mask",
        "_out",
        "_profile",
        "_recursion",
        "_trace",
        "_umask",
    )

    def __init__(self) -> None:
        changes.watch()
        os.environ.__class__ = os.environb.__class__ = _CountingEnviron  # two views of the same variables
        self._environ = os.environ
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._mask = pthread_sigmask(signal.SIG_BLOCK, ())
        self._handlers = list(map(getsignal, _SIGNALS))
        self._recursion = sys.getrecursionlimit()
        self._trace, self._profile = sys.gettrace(), sys.getprofile()
        self._out, self._err = _Stream("stdout", 1), _Stream("stderr", 2)
        self.rebase()

    def rebase(self) -> None:
        """Directory and environment were changed on purpose: they are what later calls are to find."""
        self._cwd = _cwd()
        self._environment = dict(os.environ)
        self._environ_changes = _CountingEnviron.changes
        self._changes = Changes.count

    def flush(self) -> None:
        """Write out what the call has printed."""
        self._out.flush()
        self._err.flush()

    def clean(self, wall_ns: int) -> None:
        """Put back what a call has left different.

        Args:
            wall_ns: How long the call took.

        Raises:
            NotCleaned: Something could not be; the text says what.
        """
        if Changes.count != self._changes or wall_ns > _LOOK_AFTER_NS:
            self._restore()
        if os.environ is not self._environ or _CountingEnviron.changes != self._environ_changes:
            self._restore_environment()
        if _get_recursion_limit() != self._recursion:
            _set_recursion_limit(self._recursion)
        if _get_trace() is not self._trace:
            _set_trace(self._trace)
        if _get_profile() is not self._profile:
            _set_profile(self._profile)
        if self._out.is_changed() or self._err.is_changed():
            self._restore_streams()

    def _restore(self) -> None:
        """Put everything back that may have changed unseen. Setting it anew is as cheap as asking for it."""
        _umask(self._umask)
        pthread_sigmask(_SIG_SETMASK, self._mask)
        _set_timer(_REAL, 0)
        _set_timer(_VIRTUAL, 0)
        _set_timer(_PROF, 0)
        if list(map(getsignal, _SIGNALS)) != self._handlers:
            self._restore_handlers()
        self._restore_streams()
        if _cwd() != self._cwd:
            self._restore_cwd()
        self._changes = Changes.count  # putting back has counted too

    def _restore_streams(self) -> None:
        for stream in (self._out, self._err):
            _dup2(stream.saved, stream.fd)
            stream.restore()

    def _restore_handlers(self) -> None:
        for signum, now, before in zip(_SIGNALS, map(getsignal, _SIGNALS), self._handlers, strict=True):
            if now is before or now == before:
                continue
            if before is None:  # set by native code before the first call, and Python cannot set it again
                raise NotCleaned(f"the handler of signal {signum} was replaced")
            _set_handler(signum, before)

    def _restore_environment(self) -> None:
        os.environ = self._environ  # noqa: B003 - put back if the task had replaced it
        for name in [name for name in os.environ if name not in self._environment]:
            del os.environ[name]
        for name, value in self._environment.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
        self._environ_changes = _CountingEnviron.changes

    def _restore_cwd(self) -> None:
        if self._cwd is None:  # it did not exist then either
            return
        try:
            _chdir(self._cwd)
        except OSError as error:
            raise NotCleaned(f"cannot return to {self._cwd!r}: {error}") from error


class _Stream:
    """A standard stream: the Python object, and the file behind its descriptor.

    A stream may be an object of the task's or the initializer's, which may raise anything when it is asked. Nothing of
    that is a stop: between calls SIGTERM ends the process instead of raising.

    Attributes:
        stream: What ``sys.<name>`` is to be.
        fd: 1 or 2.
        saved: A copy of what that was.
    """

    __slots__ = ("_look", "_name", "fd", "saved", "stream")

    def __init__(self, name: str, fd: int) -> None:
        self._name = name
        self.fd = fd
        self.saved = os.dup(fd)
        self.stream: TextIO | None = getattr(sys, name)
        self._look = _look_of(self.stream)

    def flush(self) -> None:
        """Flush ours, and the task's own if it has put one in place."""
        stream = self.stream
        try:
            if stream is not None and not stream.closed:
                stream.flush()
            other: Any = getattr(sys, self._name)
            if other is not stream and other is not None:
                other.flush()
        except BaseException:  # noqa: BLE001 - a task's own stream object, or a terminal that is gone
            self._flush_each()

    def _flush_each(self) -> None:
        """One of them fails: it must not take the other with it."""
        for stream in (self.stream, getattr(sys, self._name, None)):
            try:
                if stream is not None and not _is_closed(stream):
                    stream.flush()
            except BaseException as error:  # noqa: BLE001 - see above
                _report_unflushed(self.saved, self._name, error)

    def is_changed(self) -> bool:
        """Whether the object is another, none, or closed."""
        stream = getattr(sys, self._name, None)
        if stream is not self.stream:
            return True
        try:
            return stream is not None and stream.closed is not False  # no bool(): an object may have a hostile one
        except BaseException:  # noqa: BLE001 - an initializer's own object
            return _is_closed(stream)

    def restore(self) -> None:
        """Put the object back; a closed one is replaced by a new one like it."""
        stream = self.stream
        if stream is not None and _is_closed(stream):
            stream = self.stream = self._reopen()
        setattr(sys, self._name, stream)

    def _reopen(self) -> TextIO:
        encoding, errors, by_line = self._look
        buffering = 1 if by_line else -1
        return _open(self.fd, "w", encoding=encoding, errors=errors, buffering=buffering, closefd=False)


def _look_of(stream: Any) -> tuple[str | None, str | None, bool]:
    """Encoding, error handler and line buffering, noted in time: a detached stream cannot tell any more."""
    try:
        encoding, errors, by_line = stream.encoding, stream.errors, bool(stream.line_buffering)
    except BaseException:  # noqa: BLE001 - no text file of Python's own
        return None, None, False
    return (encoding if type(encoding) is str else None), (errors if type(errors) is str else None), by_line


def _is_closed(stream: Any) -> bool:
    """Whether nothing can be written any more: closed, detached, or an object that cannot even be asked."""
    try:
        return bool(stream.closed)
    except AttributeError:
        return False  # it cannot be closed, then
    except BaseException:  # noqa: BLE001 - a task's or an initializer's own object
        return True


def _report_unflushed(fd: int, name: str, error: BaseException) -> None:
    """Say on the real stream that output was lost, if that works."""
    try:
        os.write(fd, f"dremioframe worker: cannot flush sys.{name}: {class_name(type(error))}\n".encode())
    except OSError:
        return


def _cwd() -> str | None:
    try:
        return _getcwd()
    except FileNotFoundError:
        return None
