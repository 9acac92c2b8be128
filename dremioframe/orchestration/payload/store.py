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

from .. import failpoints
from . import segments
from .as_found import AsFound
from .segments import Segment
from .shelves import Shelves

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .segments import BytesLike

#: How much memory is usable is asked again after so much was written.
_LOOK_AGAIN_BYTES = 64 << 20

NO_LIMIT = 1 << 62

# Bound now: a task may replace it in its module, and its worker looks for a place on disk after it.
_access = os.access


class Store:
    """Segments of one pool. May be used from several threads."""

    def __init__(
        self, usable_memory: Callable[[], int] | None = None, share: float = 0.5, spill_dir: str | None = None
    ) -> None:
        """
        Args:
            usable_memory: Bytes that could still be had; None for no limit.
            share: How much of that segments may take.
            spill_dir: Where spilled segments go; None to look for a directory when one is needed.
        """
        self._spill_dir = spill_dir
        self._usable_memory = usable_memory
        self._share = share
        self._lock = threading.Lock()
        self._budget = NO_LIMIT
        self._look_at = -1 if usable_memory is not None else NO_LIMIT  # look again when so much is used
        self._used = 0
        self._freed: deque[int] = deque()  # by whoever drops a segment, at any moment: added up later
        self._shelves = Shelves(self.freed, self._find_spill_dir)
        self._overdrawn = False
        self._overdraft_told = False

    def room(self) -> int:
        """How many more bytes may be written to memory now; 0 if none."""
        with self._lock:
            return self._room()

    def create(self, parts: Iterable[BytesLike], size: int, name: str = "dremioframe") -> Segment:
        """A new segment, in memory if there is room, else on disk.

        Raises:
            OSError: No descriptor, or the memory or the disk that was chosen is full.
        """
        return self.keep(write_segment(parts, size, self.room(), self._spill_dir, name))

    def keep(self, segment: Segment) -> Segment:
        """Take account of a segment; returns it, or what is to be used in its place."""
        with self._lock:
            if segment.in_memory:
                self._overdrawn = self._overdrawn or segment.size > self._room()
                self._used += segment.size
            if segments.is_high(segment.fd):
                on_shelf = self._shelves.put(segment)
                if on_shelf is not None:
                    return on_shelf
        if segment.in_memory:
            segment.kept_by(self)
        return segment

    def tidy(self) -> None:
        """Much may have been let go of: see whether what is left can do with less."""
        with self._lock:
            self._shelves.tidy(self._room())

    def overdraft(self) -> str | None:
        """A warning that there was no room in memory and no place on disk; None if there was, or once it is said."""
        if not self._overdrawn or self._overdraft_told:
            return None
        if self._find_spill_dir() is not None:  # room was taken between looking and writing
            return None
        self._overdraft_told = True
        where = (
            "there is no directory on a disk to spill them to: say spill_dir="
            if self._spill_dir is None
            else f"they cannot be spilled to {self._spill_dir} any more"
        )
        return f"long results have taken more than their budget of {self._budget >> 20:,} MiB of memory, and {where}"

    def freed(self, size: int) -> None:
        """So much memory is free again."""
        self._freed.append(size)

    def _room(self) -> int:
        while self._freed:
            self._used -= self._freed.popleft()
        if self._used >= self._look_at and self._usable_memory is not None:
            self._look(self._usable_memory)
        return max(0, self._budget - self._used)

    def _look(self, usable_memory: Callable[[], int]) -> None:
        try:
            room = int(self._share * usable_memory())
        except OSError:  # no descriptor to read it by: it is asked again next time
            return
        self._budget = room if self._look_at < 0 else min(self._budget, self._used + room)
        self._look_at = self._used + _LOOK_AGAIN_BYTES

    def _find_spill_dir(self) -> str | None:
        return find_spill_dir(self._spill_dir)


def write_segment(
    parts: Iterable[BytesLike], size: int, room: int, spill_dir: str | None, name: str = "dremioframe"
) -> Segment:
    """A new segment: in memory if it fits into ``room`` bytes, else on disk, if there is a place on disk.

    Raises:
        OSError: No descriptor, or the memory or the disk that was chosen is full.
    """
    if size > room and not (failpoints.armed and failpoints.hit("store.budget")):
        directory = find_spill_dir(spill_dir)
        if directory is not None:
            return _spilled(parts, size, directory)
    return Segment.create(parts, size, name)


def _spilled(parts: Iterable[BytesLike], size: int, directory: str) -> Segment:
    try:
        return Segment.spill(parts, size, directory)
    except OSError as error:
        why = f"{error.strerror}, and it did not fit into what is left of the memory budget"
        raise OSError(error.errno, why, directory) from error


def find_spill_dir(chosen: str | None) -> str | None:
    """Where to spill to; None if there is no such place.

    Args:
        chosen: The user's choice, which is not replaced by another one; None to take the first of TMPDIR, /var/tmp and
            /tmp that is a writable directory on a disk.

    Raises:
        OSError: No descriptor to find out by.
    """
    if chosen is not None:
        if failpoints.armed and failpoints.hit("store.spill_dir"):
            return chosen
        return chosen if _access(chosen, os.W_OK | os.X_OK) else None
    with AsFound():  # in a worker, for its long results, and by a library that binds nothing
        return _usual_spill_dir()


def _usual_spill_dir() -> str | None:
    import psutil

    kinds = {mount.mountpoint: mount.fstype for mount in psutil.disk_partitions(all=True)}
    for directory in (os.environ.get("TMPDIR"), "/var/tmp", "/tmp"):  # noqa: S108 - files there have no names
        if directory and _access(directory, os.W_OK | os.X_OK) and _kind(directory, kinds) not in _NOT_ON_DISK:
            return directory
    return None


_NOT_ON_DISK = ("tmpfs", "ramfs")


def _kind(directory: str, kinds: dict[str, str]) -> str:
    path = os.path.realpath(directory)
    while path not in kinds and path != "/":
        path = os.path.dirname(path)
    return kinds.get(path, "")
