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
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypeAlias

    BytesLike: TypeAlias = bytes | bytearray | memoryview

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
#: What one call may write: the kernel stops at 2 GiB minus a page anyway, and at 1,024 parts (IOV_MAX).
_WRITE_LIMIT_BYTES = 1 << 30
_WRITE_LIMIT_PARTS = 1024


class SegmentError(Exception):
    """A descriptor is no sealed segment."""


class Segment:
    """Sealed shared memory, owned through its descriptor. Dropping the object closes it; mappings of it live on.

    Attributes:
        fd: The descriptor, or -1 once closed.
        size: Length in bytes.
    """

    __slots__ = ("fd", "size")

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size

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
        segment = cls(os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), size)
        try:
            written = _write_all(segment.fd, parts)
            if written != size:
                raise ValueError(f"the parts are {written} bytes long, not {size}")
            fcntl.fcntl(segment.fd, fcntl.F_ADD_SEALS, _SEALS)
        except BaseException:
            segment.close()  # at once: the traceback would keep it, and what was written so far, alive
            raise
        return segment

    @classmethod
    def adopt(cls, fd: int) -> Segment:
        """Take over a descriptor that another process sent.

        Raises:
            SegmentError: It is no sealed segment; it has been closed.
        """
        segment = cls(fd, 0)  # owns it from here on, and closes it if what follows fails
        try:
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        except OSError as error:
            segment.close()
            raise SegmentError(f"descriptor {fd} cannot be sealed memory: {error}") from error
        if seals & _SEALS != _SEALS:
            segment.close()
            raise SegmentError(f"descriptor {fd} is not sealed: its bytes could still change")
        segment.size = os.fstat(fd).st_size
        return segment

    def map(self) -> memoryview:
        """All of it as writable memory that nobody else sees. It lives as long as any view of it, or array over it."""
        if self.size == 0:
            return memoryview(bytearray())
        if sys.version_info >= (3, 13):
            # Before 3.13 every mapping holds a duplicate of the descriptor.
            mapping = mmap.mmap(self.fd, self.size, _MAP_FLAGS, mmap.PROT_READ | mmap.PROT_WRITE, trackfd=False)
        else:
            mapping = mmap.mmap(self.fd, self.size, _MAP_FLAGS, mmap.PROT_READ | mmap.PROT_WRITE)
        return memoryview(mapping)

    def read(self) -> bytes:
        """All of it, copied."""
        return bytes(self.map())

    def close(self) -> None:
        """Give the descriptor back. Idempotent; mappings live on."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


# Private pages are only promised memory when they are written to: eight readers of 1 GiB do not need 8 GiB.
_MAP_FLAGS = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)


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
        written = os.pwritev(fd, batch, position)
        position += written
        batch = _rest(batch, written)
    return position


def _rest(batch: Sequence[memoryview], written: int) -> Sequence[memoryview]:
    """What is left of a batch of which so many bytes are written."""
    for index, view in enumerate(batch):
        if written < view.nbytes:
            return [view[written:], *batch[index + 1 :]]
        written -= view.nbytes
    return ()
