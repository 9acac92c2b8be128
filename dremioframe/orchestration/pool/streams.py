"""The standard streams of a worker: the Python objects, and the files behind descriptors 0, 1 and 2.

A task may replace or close either half. A closed descriptor is the worse one: its number is what the next call's first
file gets, and what that call prints lands in it.

What lives here: what they were, whether they still are, and putting them back. What may not: when that is asked
(``hygiene``).
"""

from __future__ import annotations

import fcntl
import os
import resource
import sys

from .. import failpoints
from ..payload.guard import class_name
from .changes import NotCleaned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TextIO

# Bound now: a task may replace any of these in their modules, and this code runs after it.
_dup2, _fstat, _is_inheritable, _write, _open = os.dup2, os.fstat, os.get_inheritable, os.write, open
_get_blocking, _set_blocking = os.get_blocking, os.set_blocking

#: Copies are kept about half way up to this number (or to the limit, if that is lower): above what tasks work with,
#: where neither a stray close nor a new file is likely to hit them.
_HIGH = 1024


class Streams:
    """The three of them, as every call of a worker finds them."""

    __slots__ = ("_err", "_in", "_out", "_outputs_as_found")

    def __init__(self) -> None:
        fill_gaps()
        self._outputs_as_found = True
        self._in, self._out, self._err = _Stream("stdin", 0), _Stream("stdout", 1), _Stream("stderr", 2)

    def flush(self) -> None:
        """Write out what the call has printed."""
        self._outputs_as_found = self._flush_as_found()
        if not self._outputs_as_found:
            self._out.flush()
            self._err.flush()

    def _flush_as_found(self) -> bool:
        """The usual case; False if one was replaced, or cannot be flushed."""
        out, err = self._out.stream, self._err.stream
        try:
            if sys.stdout is not out or sys.stderr is not err:
                return False
            out.flush()
            err.flush()
        except BaseException:  # noqa: BLE001 - closed, none, a terminal that is gone, or an object of the user's
            return False
        return True

    def are_as_found(self) -> bool:
        """Whether nothing was replaced or closed. To be asked after :meth:`flush`.

        Everything that Python opens is closed in other programs, unlike the standard descriptors: so that flag tells a
        user's file on one of their numbers, in a third of the time that comparing files takes. What makes a descriptor
        inheritable is counted (``changes``).
        """
        try:
            return (
                _is_inheritable(0)
                and _is_inheritable(1)
                and _is_inheritable(2)
                and self._outputs_as_found
                and sys.stdin is self._in.stream
                and sys.stdin.closed is False  # no bool(): an object may have a hostile one
            )
        except BaseException:  # noqa: BLE001 - a closed descriptor, no stream, or an initializer's own object
            return False

    def restore(self) -> None:
        """Put all of them back.

        Raises:
            NotCleaned: A copy is gone.
        """
        if failpoints.armed and failpoints.hit("streams.restore"):
            return
        self._in.restore()
        self._out.restore()
        self._err.restore()


class _Stream:
    """A standard stream: the Python object, and the file behind its descriptor.

    A stream may be an object of the task's or the initializer's, which may raise anything when it is asked. Nothing of
    that is a stop: between calls SIGTERM ends the process instead of raising.

    Attributes:
        stream: What ``sys.<name>`` is to be.
        fd: 0, 1 or 2.
        saved: A copy of what that was.
    """

    __slots__ = ("_blocks", "_file", "_look", "_name", "fd", "saved", "stream")

    def __init__(self, name: str, fd: int) -> None:
        self._name = name
        self.fd = fd
        self.saved = _copy(fd)
        self._file = _file_of(self.saved)
        self._blocks = _get_blocking(self.saved)
        self.stream: Any = getattr(sys, name, None)  # an initializer puts there what it likes
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

    def restore(self) -> None:
        """Put both halves back; a closed object is replaced by a new one like it."""
        try:
            if _file_of(self.saved) != self._file and not (failpoints.armed and failpoints.hit("streams.saved")):
                raise NotCleaned(f"the copy of descriptor {self.fd} was replaced")
            _dup2(self.saved, self.fd)
            if _get_blocking(self.fd) != self._blocks:  # the user's program and all workers share that
                _set_blocking(self.fd, self._blocks)
        except OSError as error:
            raise NotCleaned(f"the copy of descriptor {self.fd} was closed: {error}") from error
        stream = self.stream
        if stream is not None and _is_closed(stream):
            stream = self.stream = self._reopen()
        setattr(sys, self._name, stream)

    def _reopen(self) -> TextIO:
        encoding, errors, by_line = self._look
        buffering = 1 if by_line else -1
        mode: Literal["w", "r"] = "w" if self.fd else "r"
        return _open(self.fd, mode, encoding=encoding, errors=errors, buffering=buffering, closefd=False)


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
        _write(fd, f"dremioframe worker: cannot flush sys.{name}: {class_name(type(error))}\n".encode())
    except OSError:
        return


def fill_gaps() -> None:
    """A standard descriptor that user code has closed before the first call is /dev/null from now on.

    Otherwise its number would go to a worker's channel, or to a call's file.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets this number: the lowest that is free
        os.set_inheritable(fd, True)  # noqa: FBT003 - the standard library's signature


def _copy(fd: int) -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    lowest = (_HIGH if soft == resource.RLIM_INFINITY else min(soft, _HIGH)) // 2
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)


def _file_of(fd: int) -> tuple[int, int]:
    status = _fstat(fd)
    return status[1], status[2]  # inode and device; by index, for the names cost as much again
