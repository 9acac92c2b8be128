"""Hostile bytes for the coordinator's decoders: made from honest ones, sent over real sockets, without processes.

``fuzz(frames, seed)`` is for `make chaos`; the command line is the same with a limit of memory and of time::

    python tests/faults/wire_fuzz.py --frames 1000000 --seed 7
    python tests/faults/wire_fuzz.py --seed 7 --chunk 12      (one chunk of it again)

Frames come in chunks. Each starts from nothing but (seed, number of the chunk), so one chunk can be replayed alone.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import math
import os
import random
import resource
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from wire_mutations import Mutator, segment_fd

from dremioframe.orchestration import calls
from dremioframe.orchestration.executors.process_outcome import ProcessOutcome
from dremioframe.orchestration.interfaces import OutcomeStatus
from dremioframe.orchestration.payload import codec
from dremioframe.orchestration.payload.diagnosis import DecodeError
from dremioframe.orchestration.payload.failure import Failure
from dremioframe.orchestration.payload.segments import SegmentError
from dremioframe.orchestration.payload.store import Store
from dremioframe.orchestration.pool import channel, lifecycle, orphans, termination
from dremioframe.orchestration.pool.capacity import Capacity
from dremioframe.orchestration.pool.channel import OutOfDescriptors
from dremioframe.orchestration.pool.deadlines import Deadlines
from dremioframe.orchestration.pool.desk import Desk
from dremioframe.orchestration.pool.events import CallEnded, CallLost
from dremioframe.orchestration.pool.floor import Floor
from dremioframe.orchestration.pool.intake import Intake
from dremioframe.orchestration.pool.process_pool import PoolOptions
from dremioframe.orchestration.pool.ring import RingReader
from dremioframe.orchestration.pool.window import Window
from dremioframe.orchestration.pool.worker_handle import WorkerHandle
from dremioframe.orchestration.pool.zygote_client import ZygoteClient

CHUNK = 1000
MEMORY_LIMIT = 64 << 20
INCARNATION = 7
_READING_ERRORS = (DecodeError, SegmentError, ValueError, struct.error)


class Bench:
    """One worker's handle and all that reads from it; the worker is us."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.capacity = Capacity(PoolOptions(size=1, runner="none:none"))
        self.floor = Floor()
        self.store = Store()
        self.desk = Desk(self.floor, self._answer, self.store)
        self.intake = Intake(self.floor, self.desk, Window(), self.capacity, ProcessOutcome)
        self.next_call = 1
        self.held: set[int] = set()
        self.faults = 0
        self.worker: WorkerHandle
        self.hire()

    def hire(self) -> None:
        self.worker = worker = WorkerHandle.create(INCARNATION)
        self.deadlines = Deadlines(self.floor)
        self.floor.add(worker, lambda: self.desk.serve(self.worker))
        self.inbox, self.side = worker._copy, worker._worker_side

    def fire(self) -> None:
        self.floor.remove(self.worker)
        self.worker.close()
        self.floor.events.clear()
        self.held.clear()

    def renew(self) -> None:
        """After a fault: as good as another worker, for a tenth of the price."""
        worker = self.worker
        if worker.unclaimed is not None or self.chance.random() < 0.01:
            self.fire()
            self.hire()
            return
        while worker.inbox.receive(1) or worker.side.receive(1):
            pass
        for slot in range(8):
            worker.page.slots[slot] = 0
        worker.ring = RingReader(worker.page)
        worker.condemned, worker.fault, worker.boot_error = False, "", ""
        worker.booted = worker.has_spoken = False
        worker._pid = 0
        worker.calls.clear()
        self.held.clear()

    def load(self) -> int:
        """See to it that the worker holds calls; returns one of them."""
        while len(self.held) < 3:
            self.held.add(self.next_call)
            self.worker.calls[self.next_call] = self.chance.choice((None, 0.001, 1e9))
            self.next_call += 1
        return min(self.held)

    def _answer(self, call_id: int, question: bytes):
        assert call_id in (0, *self.held)
        if question[:1] == calls.Request.VALUE:
            return question[1:].decode() and b"value"
        raise KeyError(question)

    # ------------------------------------------------------------------------------------------------------- one frame

    def inbox_frame(self, mutator: Mutator) -> None:
        for packet in mutator.inbox(INCARNATION, self.load(), self.held):
            self.inbox.send(packet)
        self.read()

    def ring_entry(self, mutator: Mutator) -> None:
        self.load()
        slots, ring = self.worker.page.slots, self.worker.page.ring
        mutator.ring(ring, slots, INCARNATION, sorted(self.held))
        self.read()

    def page(self, mutator: Mutator) -> None:
        mutator.page(self.worker.page.slots, self.load())
        worker = self.worker
        running, started_ns = worker.running()
        assert running == 0 or running in self.held
        assert (worker.running_s(running) or 0.0) >= 0.0
        assert 0 <= worker.pid <= 1 << 22
        termination.describe_exit(1, None, worker.farewell)
        for timeout_s in (0.0, 1e9):
            self.deadlines.arm(worker, timeout_s)
        now = time.monotonic()
        self.deadlines.expire(now)
        if running and started_ns > time.monotonic_ns():
            assert worker.fault
        assert set(lifecycle._casualties(worker)) <= self.held
        lifecycle._boot_story(worker, lifecycle._OomEvidence())
        self.floor.events.clear()  # what is overdue
        self.read()

    def side_frame(self, mutator: Mutator) -> None:
        packets, fds = mutator.side(INCARNATION, self.load())
        for packet in packets:
            if fds:
                self.side.send_with(packet, tuple(fds))
            else:
                self.side.send(packet)
        channel.close_all(fds)
        with contextlib.suppress(OutOfDescriptors):
            self.desk.serve(self.worker)
        while self.side.receive(1):
            pass
        self.read()

    def control_frame(self, mutator: Mutator) -> None:
        zygote = _Zygote()
        self.capacity._nursery.zygote = zygote
        self.capacity._owners[INCARNATION] = (self.worker, None)
        packets, fds = mutator.control(INCARNATION, PIDFD)
        for packet in packets:
            if fds:
                zygote.said.send_with(packet, tuple(fds))
            else:
                zygote.said.send(packet)
        channel.close_all(fds)
        bury, self.capacity._bury = self.capacity._bury, lambda worker: None
        try:
            self.capacity.listen()
        finally:
            self.capacity._bury = bury
            if self.capacity._nursery.zygote is not None:
                zygote.kill()
            self.capacity._nursery.zygote = None
            self.capacity._owners.clear()
        worker = self.worker
        if worker.pidfd >= 0:
            os.close(worker.pidfd)
        worker.pidfd, worker._pid, worker.exit, worker.orphaned, worker.boot_error = -1, 0, None, "", ""

    def value(self, mutator: Mutator) -> None:
        """What is read later, or in a worker: payloads, failures, inputs."""
        for data in mutator.values():
            for read in (
                lambda data=data: codec.decode(data, private=False),
                lambda data=data: Failure.from_bytes(data),
                lambda data=data: calls.read_failure_head(data),
                lambda data=data: calls.read_head(data),
                lambda data=data: [(name, bytes(value)) for name, value in calls.read_inputs(data)],
            ):
                with contextlib.suppress(*_READING_ERRORS):
                    read()

    # ------------------------------------------------------------------------------------------------------- and after

    def read(self) -> None:
        worker, floor = self.worker, self.floor
        self.intake.drain(worker)
        events, floor.events = floor.events, []
        for event in events:
            assert event.call_id in self.held, f"call {event.call_id} ended twice, or was never held"
            self.held.discard(event.call_id)
            assert isinstance(event, CallEnded | CallLost)
            if isinstance(event, CallEnded):
                _look_at(event)
        assert set(worker.calls) == self.held
        if worker.fault:
            self.faults += 1
        if worker.fault or worker.condemned or worker.unclaimed is not None:
            self.renew()

    def close(self) -> None:
        self.fire()
        self.floor.close()
        self.capacity.close()


class _Zygote(ZygoteClient):
    """A channel without a process."""

    def __init__(self) -> None:
        ours, self.said = channel.pair()
        super().__init__(0, -1, ours)

    def kill(self) -> str:
        self._control.close()
        self.said.close()
        if self._server_pidfd >= 0:
            os.close(self._server_pidfd)
        return "was killed"


def _look_at(outcome: ProcessOutcome) -> None:
    """Everything that the engine reads of an outcome before it is the user's."""
    stats = outcome.stats
    assert stats.wall_s >= 0.0
    assert outcome.segment is None or outcome.segment.size < MEMORY_LIMIT
    if outcome.status:
        try:
            failure = outcome.failure
            assert outcome.status in {1, 2, 3, OutcomeStatus.CANCELLED}  # the others are the coordinator's own
            failure.describe("task", 1)
            delay_s = outcome.retry_delay_s
            assert delay_s is None or (math.isfinite(delay_s) and delay_s >= 0.0)
            assert outcome.retryable in (True, False)
        except _READING_ERRORS:
            pass
    else:
        with contextlib.suppress(*_READING_ERRORS):
            outcome.load()
    outcome.release()


#: What is aimed at, and how often.
_TARGETS = {
    Bench.inbox_frame: 44,
    Bench.ring_entry: 20,
    Bench.side_frame: 15,
    Bench.value: 12,
    Bench.page: 6,
    Bench.control_frame: 3,
}
PIDFD = -1


def run_chunk(seed: int, chunk: int, size: int) -> int:
    """One chunk; returns how many of its frames cost a worker."""
    chance = random.Random(f"{seed}/{chunk}")
    bench, mutator = Bench(chance), Mutator(chance)
    targets, weights = list(_TARGETS), list(_TARGETS.values())
    number = -1
    try:
        for number, aim in enumerate(chance.choices(targets, weights, k=size)):
            faults = bench.faults
            aim(bench, mutator)
            assert bench.faults - faults <= 1
        bench.close()
    except BaseException:
        print(f"frame {number} of: wire_fuzz.py --seed {seed} --chunk {chunk}", file=sys.stderr, flush=True)
        raise
    return bench.faults


def fuzz(count: int, seed: int, first: int = 0) -> dict[str, float]:
    """Send so many hostile frames; raises if any of them does harm.

    Returns:
        What happened: frames, workers that they cost, seconds.
    """
    global PIDFD
    kill_sessions, orphans._kill_sessions = orphans._kill_sessions, lambda sessions: None
    child = os.fork()
    if not child:
        os._exit(0)
    PIDFD = os.pidfd_open(child)
    os.waitpid(child, 0)
    began, faults = time.monotonic(), 0
    before = len(os.listdir("/proc/self/fd"))
    try:
        for chunk in range(first, first + -(-count // CHUNK)):
            faulthandler.dump_traceback_later(60, exit=True)
            faults += run_chunk(seed, chunk, min(CHUNK, count - (chunk - first) * CHUNK))
            left = len(os.listdir("/proc/self/fd")) - before
            assert not left, f"{left} descriptors left by wire_fuzz.py --seed {seed} --chunk {chunk}"
    finally:
        faulthandler.cancel_dump_traceback_later()
        os.close(PIDFD)
        orphans._kill_sessions = kill_sessions
    return {"frames": count, "faults": faults, "seconds": round(time.monotonic() - began, 1)}


def limit_memory() -> None:
    """Whatever asks for more than a few frames' worth of memory gets a MemoryError."""
    os.close(segment_fd(b"x"))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--chunk", type=int, default=None)
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    fuzz(200, seed, -1)  # everything that is imported late
    limit_memory()
    if arguments.chunk is None:
        print(fuzz(arguments.frames, seed))
    else:
        print(fuzz(CHUNK, seed, arguments.chunk))


if __name__ == "__main__":
    main()
