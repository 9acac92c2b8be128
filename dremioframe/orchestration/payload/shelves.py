"""Many segments in few files, for when descriptors run short.

A *shelf* is one file that takes segments one behind another. It lives as long as something on it, and is freed as a
whole: readers may have mapped any part of it, so nothing in it can be given back before. That one short segment does
not keep a large shelf alive, what is left of a shelf that is mostly empty moves to another.

What lives here: shelves. What may not: when a segment goes to one, and what all of them may take (``store``).
"""

from __future__ import annotations

import errno
import os
import weakref
from collections import deque

from . import segments
from .segments import File, Segment, SegmentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Bound now: a run inside a task keeps its results in a worker, where tasks before may have replaced them.
_lseek, _sendfile = os.lseek, os.sendfile

_MIB = 1 << 20
_SMALLEST = 4 * _MIB
_LARGE = 256 * _MIB

#: Nobody moves anything for less.
_WORTHWHILE = _MIB


class Shelves:
    """All shelves of one store. Only one thread at a time may use it."""

    def __init__(self, freed: Callable[[int], None], find_spill_dir: Callable[[], str | None]) -> None:
        """
        Args:
            freed: Told how many bytes of memory are free again, at any moment; a negative number are taken.
            find_spill_dir: Where shelves on disk go, if there is such a place.
        """
        self._freed = freed
        self._find_spill_dir = find_spill_dir
        self._all: weakref.WeakSet[_Shelf] = weakref.WeakSet()
        self._current: dict[bool, weakref.ref[_Shelf]] = {}  # in memory, and on disk

    def put(self, segment: Segment) -> Segment | None:
        """Copy a segment to a shelf, which gives its descriptor back.

        Args:
            segment: It is closed. If it lies in memory, somebody has counted its bytes as taken.

        Returns:
            What takes its place; None if there is neither a descriptor nor room for that: it stays as it is.
        """
        try:
            shelf = self._shelf_for(segment)
            offset = self._append(shelf, segment)
        except OSError:
            return None
        on_shelf = Segment(shelf, segment.size, offset, in_memory=segment.in_memory, keeper=shelf)
        shelf.residents.append(weakref.ref(on_shelf))
        segment.close()
        return on_shelf

    def tidy(self, room: int) -> None:
        """Clear the shelves of which less than half is still needed."""
        for shelf in list(self._all):
            alive = shelf.alive()
            if shelf.end - alive > max(alive, _WORTHWHILE) and (alive <= room or not shelf.in_memory):
                self._clear(shelf)

    def _clear(self, shelf: _Shelf) -> None:
        """Move everything that is left on it."""
        self._complete(shelf)
        while shelf.residents:
            segment = shelf.residents[-1]()
            if segment is not None:
                try:
                    self._move(segment, shelf)
                except OSError:  # too few descriptors, or no room: what is left stays where it is
                    return
                except SegmentError:
                    pass  # another thread has closed it meanwhile
            shelf.residents.pop()

    def _move(self, segment: Segment, shelf: _Shelf) -> None:
        to = self._shelf_for(segment)
        offset = self._append(to, segment)
        if segment.in_memory:
            self._freed(-segment.size)
        if segment.move(to, offset, to):
            to.residents.append(weakref.ref(segment))
            shelf.freed(segment.size)
        else:
            to.freed(segment.size)

    def _append(self, shelf: _Shelf, segment: Segment) -> int:
        try:
            return shelf.append(segment)
        except OSError:
            self._complete(shelf)  # it will not get better
            raise

    def _shelf_for(self, segment: Segment) -> _Shelf:
        """The current shelf of its kind if that has room, else a new one."""
        current = self._current.get(segment.in_memory, _no_shelf)()
        if current is not None:
            if current.has_room(segment.size):
                return current
            self._complete(current)
        alive = sum(shelf.alive() for shelf in self._all if shelf.in_memory == segment.in_memory)
        # Few shelves, however much there is, and not so large that they could not be cleared.
        capacity = max(min(max(_SMALLEST, alive), max(_LARGE, alive // 4)), 4 * segment.size)
        new = _open_shelf(capacity, None if segment.in_memory else self._where(), self._freed)
        self._all.add(new)
        self._current[segment.in_memory] = weakref.ref(new)
        return new

    def _where(self) -> str:
        directory = self._find_spill_dir()
        if directory is None:
            raise FileNotFoundError("no directory to spill to")
        return directory

    def _complete(self, shelf: _Shelf) -> None:
        """Nothing more will come: from now on it is memory, or a file, like any other."""
        shelf.complete()
        if self._current.get(shelf.in_memory, _no_shelf)() is shelf:
            del self._current[shelf.in_memory]


def _no_shelf() -> None:
    """A reference to nothing."""


def _open_shelf(capacity: int, directory: str | None, freed: Callable[[int], None]) -> _Shelf:
    """An empty shelf, in memory if ``directory`` is None.

    Raises:
        OSError: No descriptor left, or there can be no such file.
    """
    writer = File(segments.memory_file("dremioframe-shelf") if directory is None else segments.unnamed_file(directory))
    return _Shelf(segments.reopened(writer.fd), writer, capacity, directory is None, freed)


class _Shelf(File):
    """One file. Its own descriptor only reads.

    Attributes:
        end: How long it is by now, in bytes.
        in_memory: False if it lies on a disk.
        residents: What was put on it.
    """

    __slots__ = ("_alive", "_capacity", "_freed", "_left", "_taken", "_writer", "end", "in_memory", "residents")

    def __init__(self, fd: int, writer: File, capacity: int, in_memory: bool, freed: Callable[[int], None]) -> None:
        super().__init__(fd)
        self._writer: File | None = writer
        self._capacity = capacity
        self._freed = freed
        self._alive = self._taken = 0
        self._left: deque[int] = deque()  # by whoever drops a segment, at any moment: added up later
        self.end = 0
        self.in_memory = in_memory
        self.residents: list[weakref.ref[Segment]] = []

    def alive(self) -> int:
        """How many bytes on it are still needed."""
        while self._left:
            self._alive -= self._left.popleft()
        return self._alive

    def has_room(self, size: int) -> bool:
        return self._writer is not None and self.end + size <= self._capacity

    def append(self, segment: Segment) -> int:
        """Copy a segment to the end, from descriptor to descriptor; returns where that begins: on a page of its own.

        Raises:
            OSError: There is no room for it. Nothing more should be appended.
        """
        assert self._writer is not None
        file, at = segment.place
        start, end = self.end, at + segment.size
        _lseek(self._writer.fd, start, os.SEEK_SET)
        while at < end:
            copied = _sendfile(self._writer.fd, file.fd, at, end - at)
            if not copied:
                raise OSError(errno.EIO, "the file is shorter than the segment")
            at += copied
        self.end = start + -(-segment.size // segments.PAGE_BYTES) * segments.PAGE_BYTES
        self._alive += segment.size
        self._taken += segment.size
        return start

    def complete(self) -> None:
        """Give the descriptor back by which it is written. Idempotent."""
        writer, self._writer = self._writer, None
        if writer is not None and self.in_memory:
            segments.seal(writer.fd)

    def freed(self, size: int) -> None:
        """A segment on it was closed. See :class:`.segments.Keeper`."""
        self._left.append(size)

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        super().__del__(_close)
        if self.in_memory:
            self._freed(self._taken)
