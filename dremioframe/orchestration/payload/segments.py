"""Bytes in memory that processes share: written once, sealed, then mapped by every reader for itself.

What lives here: everything that maps memory. What may not: what the bytes mean.

A segment is a ``memfd``: it has no name, so nothing can be left behind, and no size limit of /dev/shm applies. It is
filled with ``pwrite``, never through a mapping: that is two to three times as fast (no page faults), and a full
machine is an error instead of SIGBUS. The seals make what a reader has checked stay true: the sender cannot shrink the
file under a mapping or change bytes that were already read. Readers map it copy-on-write, so each may write to its copy
in place.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import stat
import sys

from .. import failpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Protocol, TypeAlias

    BytesLike: TypeAlias = bytes | bytearray | memoryview
else:
    from ..light_typing import Protocol

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
#: What one call may write: the kernel stops at 2 GiB minus a page anyway, and at 1,024 parts (IOV_MAX).
_WRITE_LIMIT_BYTES = 1 << 30
_WRITE_LIMIT_PARTS = 1024

PAGE_BYTES = mmap.PAGESIZE

# Bound now: a task may replace any of these in their modules, and workers write and map results after it.
_open, _close, _dup, _fstat = os.open, os.close, os.dup, os.fstat
_memfd_create, _pwritev, _preadv = os.memfd_create, os.pwritev, os.preadv
_fcntl, _getrlimit, _mmap = fcntl.fcntl, resource.getrlimit, mmap.mmap


class SegmentError(Exception):
    """A descriptor is no sealed segment."""


class Keeper(Protocol):
    """Whoever has to know that a segment is no longer needed."""

    def freed(self, size: int) -> None:
        """The segment is closed. May be called at any moment, from any thread."""


class File:
    """Owns a descriptor and closes it when nobody uses it any more.

    Attributes:
        fd: Valid as long as you hold this object.
    """

    __slots__ = ("__weakref__", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        _close(self.fd)  # bound above: when the interpreter ends, modules are emptied before the last values go


class Segment:
    """Bytes of sealed shared memory, or of a file without a name. Dropping the object closes it; mappings live on.

    It may be moved to another place while others read it: take :attr:`place` once, and use what you got.

    Attributes:
        size: Length in bytes.
        in_memory: False if it lies on a disk.
    """

    __slots__ = ("__weakref__", "_keeping", "in_memory", "size")

    def __init__(
        self, file: File, size: int, offset: int = 0, *, in_memory: bool = True, keeper: Keeper | None = None
    ) -> None:
        self.size = size
        self.in_memory = in_memory
        # In one piece, so that whoever reads it while another thread moves it finds things that belong together.
        self._keeping: tuple[tuple[File, int], Keeper | None] | None = ((file, offset), keeper)

    @property
    def place(self) -> tuple[File, int]:
        """The file, and where in it the segment begins: a multiple of the page size.

        Raises:
            SegmentError: It has been closed.
        """
        keeping = self._keeping
        if keeping is None:
            raise SegmentError("the segment has been closed")
        return keeping[0]

    @property
    def fd(self) -> int:
        """The descriptor, for a segment that nobody else may move or close; -1 once closed."""
        return -1 if self._keeping is None else self._keeping[0][0].fd

    @classmethod
    def create(cls, parts: Iterable[BytesLike], size: int, name: str = "dremioframe") -> Segment:
        """A new segment that holds the parts one after another.

        Args:
            parts: What to write.
            size: Their total length in bytes.
            name: Shown in /proc/PID/fd for those who look; need not be unique.

        Raises:
            OSError: No descriptor or no memory left.
            ValueError: The parts are not of that size.

        Example:
            >>> segment = Segment.create([b"abc", b"def"], 6)
            >>> segment.read()
            b'abcdef'
        """
        segment = cls(File(memory_file(name)), size)
        segment._fill(parts)
        seal(segment.fd)
        return segment

    @classmethod
    def spill(cls, parts: Iterable[BytesLike], size: int, directory: str) -> Segment:
        """As :meth:`create`, in a file that has no name, in a directory that lies on a disk.

        Raises:
            OSError: No descriptor or no room left, or there can be no such file.
            ValueError: The parts are not of that size.
        """
        written = cls(File(unnamed_file(directory)), size, in_memory=False)
        written._fill(parts)
        segment = cls(File(reopened(written.fd)), size, in_memory=False)
        written.close()
        return segment

    def _fill(self, parts: Iterable[BytesLike]) -> None:
        try:
            written = _write_all(self.fd, parts)
            if written != self.size:
                raise ValueError(f"the parts are {written} bytes long, not {self.size}")
        except BaseException:
            self.close()  # at once: the traceback would keep it, and what was written so far, alive
            raise

    @classmethod
    def adopt(cls, fd: int) -> Segment:
        """Take over a descriptor that another process sent: sealed memory, or a spilled file opened for reading.

        Raises:
            SegmentError: It is neither; it has been closed.
        """
        segment = cls(File(fd), 0)  # owns it from here on, and closes it if what follows fails
        try:
            status = _fstat(fd)
            segment.size = status.st_size
            segment.in_memory = _is_memory(fd, status)
        except SegmentError:
            segment.close()
            raise
        return segment

    def kept_by(self, keeper: Keeper) -> None:
        """From now on ``keeper`` is told when it is closed."""
        self._keeping = self.place, keeper

    def move(self, file: File, offset: int, keeper: Keeper) -> bool:
        """The same bytes lie elsewhere now; False if it was closed meanwhile.

        Whoever took its place before still has the old one.
        """
        if self._keeping is None:
            return False
        self._keeping = (file, offset), keeper
        return True

    def map(self) -> memoryview:
        """All of it as writable memory that nobody else sees. It lives as long as any view of it, or array over it.

        Zero copy, except where mappings cost descriptors (before Python 3.13) and those are running out.
        """
        file, offset = self.place
        if self.size == 0:
            return memoryview(bytearray())
        shared = failpoints.armed and failpoints.hit("segments.private")
        flags = mmap.MAP_SHARED if shared else _MAP_FLAGS
        if sys.version_info >= (3, 13):
            return memoryview(_mmap(file.fd, self.size, flags, _MAP_PROTECTION, offset=offset, trackfd=False))
        if _is_next_high(file.fd):
            return _copy(file.fd, offset, self.size)
        return memoryview(_mmap(file.fd, self.size, flags, _MAP_PROTECTION, offset=offset))

    def read(self) -> bytes:
        """All of it, copied."""
        return bytes(self.map())

    def close(self) -> None:
        """Let go of it. Idempotent; mappings live on."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None and keeping[1] is not None:
            keeping[1].freed(self.size)

    def __del__(self) -> None:
        self.close()


# Private pages are only promised memory when they are written to: eight readers of 1 GiB do not need 8 GiB.
_MAP_FLAGS = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
_MAP_PROTECTION = mmap.PROT_READ | mmap.PROT_WRITE


def seal(fd: int) -> None:
    """Nothing in this memfd changes any more."""
    _fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)


def memory_file(name: str) -> int:
    """A descriptor of new memory that can be sealed."""
    return _memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def unnamed_file(directory: str) -> int:
    """A descriptor of a new file that has no name, in a directory that lies on a disk."""
    return _open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)


def reopened(fd: int) -> int:
    """Another descriptor of the same file, only to read."""
    return _open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)


def is_high(fd: int) -> bool:
    """Whether half of the descriptors that this process may have were in use when this one was given to it.

    The kernel gives the lowest free number, so the number tells, whoever holds the others.
    """
    return 2 * fd > _getrlimit(resource.RLIMIT_NOFILE)[0]


def _is_next_high(fd: int) -> bool:
    """Whether the next descriptor would be a high one. Any valid ``fd`` will do."""
    try:
        probe = _dup(fd)
    except OSError:  # there is none at all
        return True
    _close(probe)
    return is_high(probe)


def _copy(fd: int, offset: int, size: int) -> memoryview:
    data = memoryview(bytearray(size))
    at = 0
    while at < size:
        read = _preadv(fd, [data[at : at + _WRITE_LIMIT_BYTES]], offset + at)
        if not read:
            raise SegmentError(f"it ends after {at} of {size} bytes")
        at += read
    return data


def _is_memory(fd: int, status: os.stat_result) -> bool:
    """True for sealed memory, False for a spilled file.

    Raises:
        SegmentError: It is something else, or its bytes could still change.
    """
    try:
        seals = _fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        is_file = stat.S_ISREG(status.st_mode) and status.st_nlink == 0
        if is_file and _fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            return False
        raise SegmentError(f"descriptor {fd} cannot be sealed memory: {error}") from error
    if seals & _SEALS != _SEALS:
        raise SegmentError(f"descriptor {fd} is not sealed: its bytes could still change")
    if status.st_blocks * 512 < status.st_size:  # whoever copies or reads it would pay for what nobody has written
        raise SegmentError(f"descriptor {fd} is mostly holes: {status.st_size:,} bytes in {status.st_blocks:,} blocks")
    return True


def _write_all(fd: int, parts: Iterable[BytesLike]) -> int:
    """Write the parts one after another from the start; returns how many bytes that were."""
    position = 0
    batch: list[memoryview] = []
    batch_bytes = 0
    for part in parts:
        view = memoryview(part).cast("B") if len(part) else memoryview(b"")
        for start in range(0, view.nbytes, _WRITE_LIMIT_BYTES):
            batch.append(view[start : start + _WRITE_LIMIT_BYTES])
            batch_bytes += batch[-1].nbytes
            if batch_bytes >= _WRITE_LIMIT_BYTES or len(batch) == _WRITE_LIMIT_PARTS:
                position = _write_batch(fd, batch, position)
                batch, batch_bytes = [], 0
    return _write_batch(fd, batch, position)


def _write_batch(fd: int, batch: Sequence[memoryview], position: int) -> int:
    """Write one batch, however many calls that takes; returns the position behind it."""
    while batch:
        written = _pwritev(fd, batch, position)
        position += written
        if failpoints.armed and failpoints.hit("segments.rest"):
            break
        batch = _rest(batch, written)
    return position


def _rest(batch: Sequence[memoryview], written: int) -> Sequence[memoryview]:
    """What is left of a batch of which so many bytes are written."""
    for index, view in enumerate(batch):
        if written < view.nbytes:
            return [view[written:], *batch[index + 1 :]]
        written -= view.nbytes
    return ()
