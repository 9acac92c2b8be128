"""One page of memory that a worker shares with the coordinator: what it is doing now, and what it said when it died.

A memfd: the first page holds 8-byte slots, each written by one side and read by the other at any time; then comes the
ring of outcomes (``ring``); behind it is room for what faulthandler writes (a crash, or a stack dump on demand),
through the worker's own descriptor, whose offset nobody else moves. The size is sealed: a task that truncated it would
otherwise kill the *coordinator* by SIGBUS.

The order of the worker's writes makes a kill safe (``worker`` has the other half)::

    outcome of X sent, or in the ring -> RUNNING = 0 -> receive Y -> STARTED = now -> RUNNING = Y -> only now unpickle

So after a death: a call named by RUNNING whose outcome was not received has started; any other has not.

A slot is stored through ``memoryview.cast("Q")``, which is one 8-byte store; ``struct.pack_into`` writes byte by byte.
"""

from __future__ import annotations

import fcntl
import mmap
import os

_SLOTS_BYTES = 4096
RING_BYTES = 32 * 1024
_SHARED_BYTES = _SLOTS_BYTES + RING_BYTES
_DUMP_BYTES = 256 * 1024
_DUMP_USUAL_BYTES = 4096  # to read all of it takes 0.6 ms, and somebody waits for the next worker
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

# Slots.
RUNNING = 0  # id of the call that runs, 0 for none
STARTED_NS = 1  # when it started, CLOCK_MONOTONIC
PID = 2  # the worker's pid: written when it is certain to die with the zygote, before it receives anything
FAREWELL = 3  # why the worker ended itself, one of Farewell
ROOM = 4  # by the coordinator: how many bytes of results may go to memory, the rest goes to disk
SENT = 5  # by the coordinator: how many calls it has sent in all and not taken back
WRITTEN = 6  # how many bytes of outcomes went to the ring
READ = 7  # by the coordinator: how many of them it has read
HELD = 8  # how much private memory it had when it began a call with a memory limit; 0: no such call has begun
TOLD = 9  # 1 once the worker's main thread knows that it is to end
OWN_HANDLER = 10  # 1 while SIGTERM is handled by a task's own handler


class Farewell:
    """Why a worker ended itself. On the page, not in the exit code: a task can exit with any code it likes."""

    NONE = 0
    CHANNEL_LOST = 1  # a task closed or replaced the worker's channel
    RUNNER_FAILED = 2  # the runner raised: a bug of ours
    RETIRED = 3  # it said so with its last outcome
    TERMINATED = 4  # SIGTERM
    NOT_CLEANED = 5  # what a task had changed could not be put back


class StatusPage:
    """The page, from either side.

    Attributes:
        fd: The memfd.
        slots: The page as 8-byte numbers.
        ring: The memory of the ring.
    """

    __slots__ = ("_map", "fd", "ring", "slots")

    def __init__(self, fd: int, protection: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, _SHARED_BYTES, mmap.MAP_SHARED, protection)
        self.slots = memoryview(self._map)[:_SLOTS_BYTES].cast("Q")
        self.ring = memoryview(self._map)[_SLOTS_BYTES:]

    @classmethod
    def create(cls, name: str) -> StatusPage:
        """A new page, as the coordinator has it: to read, but for a few slots."""
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.truncate(fd, _SHARED_BYTES + _DUMP_BYTES)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            return cls(fd, mmap.PROT_READ | mmap.PROT_WRITE)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, fd: int) -> StatusPage:
        """The page as its worker has it: to write, with the descriptor's offset where dumps go."""
        os.lseek(fd, _SHARED_BYTES, os.SEEK_SET)
        return cls(fd, mmap.PROT_READ | mmap.PROT_WRITE)

    def running(self) -> tuple[int, int]:
        """(id of the running call or 0, its start in ns), which belong together."""
        slots = self.slots
        while True:
            call_id = slots[RUNNING]
            started_ns = slots[STARTED_NS]
            if slots[RUNNING] == call_id:
                return call_id, started_ns

    def knows_of_its_end(self) -> bool:
        """Whether SIGTERM has reached what it was meant for."""
        return bool(self.slots[TOLD])

    def handles_its_end(self) -> bool:
        """Whether a task's own handler gets SIGTERM, which nobody can be asked whether it has."""
        return bool(self.slots[OWN_HANDLER])

    def dump(self) -> str:
        """What faulthandler has written so far."""
        raw = os.pread(self.fd, _DUMP_USUAL_BYTES, _SHARED_BYTES)
        if raw and raw[-1]:
            raw = os.pread(self.fd, _DUMP_BYTES, _SHARED_BYTES)
        return raw.rstrip(b"\0").decode("utf-8", "backslashreplace")

    def close(self) -> None:
        """Unmap and close."""
        self.slots.release()
        self.ring.release()
        self._map.close()
        os.close(self.fd)
