"""The long results of this process and of its workers: how much memory and how many descriptors they may take.

Both are limited. **Memory**: segments may take a share of what was usable when the first was made; what comes on top
goes to a file without a name on a disk. That is decided *before* anything is written: under a cgroup's limit writing
does not fail, the kernel kills. Workers are told how much room is left (the pool writes it on their status pages).
**Descriptors**: a segment costs one as long as it is kept. When half of what this process may have are in use, new
segments are copied one after another into few large ones, the *shelves*; their own descriptors are given back.

What lives here: this bookkeeping. What may not: the segments' own system calls (``segments``), and when a result is no
longer needed (the machine knows).
"""

from __future__ import annotations

import os
import threading
from collections import deque

from . import segments
from .segments import Segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .segments import BytesLike

_MIB = 1 << 20

#: Longer segments keep their own descriptors: so many of them do not fit into memory that they would matter.
_LONGEST_ON_SHELF = 64 * _MIB
_SMALLEST_SHELF = 4 * _MIB
_LARGEST_SHELF = 256 * _MIB

#: How much memory is usable is asked again after so much was written.
_LOOK_AGAIN_BYTES = 64 * _MIB

NO_LIMIT = 1 << 62


class Store:
    """Segments of one pool. May be used from several threads.

    Attributes:
        spill_dir: Where spilled segments go; None to look for a directory when one is needed.
    """

    def __init__(
        self, usable_memory: Callable[[], int] | None = None, share: float = 0.5, spill_dir: str | None = None
    ) -> None:
        """
        Args:
            usable_memory: Bytes that could still be had; None for no limit.
            share: How much of that segments may take.
        """
        self.spill_dir = spill_dir
        self._usable_memory = usable_memory
        self._share = share
        self._lock = threading.Lock()
        self._budget = NO_LIMIT
        self._look_at = -1 if usable_memory is not None else NO_LIMIT  # look again when so much is used
        self._used = 0
        self._freed: deque[int] = deque()  # by whoever drops a segment, at any moment: added up later
        self._shelf: _Shelf | None = None
        self._shelved = 0
        self._overdrawn = False
        self._overdraft_told = False

    def room(self) -> int:
        """How many more bytes may be written to memory now; 0 if none."""
        with self._lock:
            return self._room()

    def create(self, parts: Iterable[BytesLike], size: int, name: str = "dremioframe") -> Segment:
        """A new segment, in memory if there is room, else on disk.

        Raises:
            OSError: No descriptor, or no room in memory and on disk.
        """
        if size > self.room() and (directory := self.spill_dir or find_spill_dir()) is not None:
            return Segment.spill(parts, size, directory)
        return self.keep(Segment.create(parts, size, name))

    def keep(self, segment: Segment) -> Segment:
        """Take account of a segment; returns it, or what is to be used in its place."""
        if not segment.in_memory:
            return segment
        with self._lock:
            self._overdrawn = self._overdrawn or segment.size > self._room()
            self._used += segment.size
            if segments.is_high(segment.fd) and segment.size <= _LONGEST_ON_SHELF:
                on_shelf = self._shelve(segment)
                if on_shelf is not None:
                    return on_shelf
        segment.kept_by(self)
        return segment

    def overdraft(self) -> str | None:
        """A warning that there was no room in memory and no place on disk; None if there was, or once it is said."""
        if not self._overdrawn or self._overdraft_told or (self.spill_dir or find_spill_dir()) is not None:
            return None
        self._overdraft_told = True
        return (
            f"long results have taken more than their budget of {self._budget >> 20:,} MiB of memory, and there is no "
            "directory on a disk to spill them to: say spill_dir="
        )

    def give_back(self, fd: int, size: int) -> None:
        """A segment with a descriptor of its own was closed; see :class:`.segments.Keeper`."""
        os.close(fd)
        self.freed(size)

    def freed(self, size: int) -> None:
        """So much memory is free again."""
        self._freed.append(size)

    def _room(self) -> int:
        while self._freed:
            self._used -= self._freed.popleft()
        if self._used >= self._look_at and self._usable_memory is not None:
            room = int(self._share * self._usable_memory())
            self._budget = room if self._look_at < 0 else min(self._budget, self._used + room)
            self._look_at = self._used + _LOOK_AGAIN_BYTES
        return max(0, self._budget - self._used)

    def _shelve(self, segment: Segment) -> Segment | None:
        """Copy a segment to a shelf and close it; None if there is neither a descriptor nor memory for that."""
        try:
            if self._shelf is None or not self._shelf.has_room(segment.size):
                self._shelf = self._next_shelf(segment.size)
            on_shelf = self._shelf.take_over(segment)
        except OSError:
            return None  # it keeps the descriptor that it has
        self._shelved += segment.size
        segment.close()
        return on_shelf

    def _next_shelf(self, size: int) -> _Shelf:
        shelf, self._shelf = self._shelf, None
        if shelf is not None:
            shelf.complete()
        capacity = min(max(_SMALLEST_SHELF, self._shelved), _LARGEST_SHELF)
        return _Shelf(self, max(capacity, size))


class _Shelf:
    """Many short segments one behind another in one memfd: each is written once, and the whole is freed together."""

    __slots__ = ("_bytes", "_capacity", "_end", "_fd", "_store", "_write_fd")

    def __init__(self, store: Store, capacity: int) -> None:
        self._fd = self._write_fd = -1
        self._bytes = self._end = 0
        self._capacity = capacity
        self._store = store
        self._write_fd = os.memfd_create("dremioframe-shelf", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._fd = segments.reopened(self._write_fd)  # what readers get

    def has_room(self, size: int) -> bool:
        return self._end + size <= self._capacity

    def take_over(self, segment: Segment) -> Segment:
        """Copy a segment to the end, from descriptor to descriptor; the next one begins on a new page."""
        os.lseek(self._write_fd, self._end, os.SEEK_SET)
        at = segment.offset
        end = at + segment.size
        while at < end:
            at += os.sendfile(self._write_fd, segment.fd, at, end - at)
        start = self._end
        self._end += -(-segment.size // segments.PAGE_BYTES) * segments.PAGE_BYTES
        self._bytes += segment.size
        return Segment(self._fd, segment.size, start, keeper=self)

    def complete(self) -> None:
        """Nothing more will come: from now on it is memory like any other."""
        segments.seal(self._write_fd)
        os.close(self._write_fd)
        self._write_fd = -1

    def give_back(self, fd: int, size: int) -> None:
        """One of the segments on it was closed; the others need the descriptor. See :class:`.segments.Keeper`."""

    def __del__(self) -> None:
        for fd in (self._fd, self._write_fd):
            if fd >= 0:
                os.close(fd)
        self._store.freed(self._bytes)


def find_spill_dir() -> str | None:
    """The first of TMPDIR, /var/tmp and /tmp that is a writable directory on a disk; None if there is none."""
    import psutil

    kinds = {mount.mountpoint: mount.fstype for mount in psutil.disk_partitions(all=True)}
    for directory in (os.environ.get("TMPDIR"), "/var/tmp", "/tmp"):  # noqa: S108 - files there have no names
        if directory and os.access(directory, os.W_OK | os.X_OK) and _kind(directory, kinds) not in _NOT_ON_DISK:
            return directory
    return None


_NOT_ON_DISK = ("tmpfs", "ramfs")


def _kind(directory: str, kinds: dict[str, str]) -> str:
    path = os.path.realpath(directory)
    while path not in kinds and path != "/":
        path = os.path.dirname(path)
    return kinds.get(path, "")
