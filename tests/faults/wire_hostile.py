"""Hostile packets from real workers, on their real sockets, in a run that has other tasks as well.

``harass(frames, seed)`` is for `make chaos`; the command line is the same::

    python tests/faults/wire_hostile.py --frames 10000 --seed 7
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from wire_mutations import Mutator

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task
from dremioframe.orchestration.errors import PayloadError
from dremioframe.orchestration.pool import channel, frames, status_page
from dremioframe.orchestration.pool.frames import Kind

#: The low half of a call id, and the number of a question: an outcome of another call that this worker holds, or an
#: answer that the next task's question finds waiting, would be a good forgery, not a bad frame.
_FIXED = (*range(8, 12), *range(20, 24))
_NEXT_ATTEMPT = 1 << 32


class Worker:
    """The worker that this code runs in, as a vandal sees it."""

    def __init__(self) -> None:
        frame = sys._getframe()
        while not hasattr(owner := frame.f_locals.get("self"), "serve"):
            frame = frame.f_back
        self.incarnation = owner._incarnation
        self.inbox, self.side = owner._inbox, owner._ports._side
        self.slots, self.ring = owner._slots, owner._ring._bytes

    def spoil(self, chance: random.Random) -> None:
        """One hostile frame."""
        mutator, call_id = Mutator(chance, _FIXED), self.slots[status_page.RUNNING]
        mutator.sent = [frames.pack_outcome(self.incarnation, call_id + _NEXT_ATTEMPT, 0, 5, (1, 2, 3, 4), b"stale")]
        match chance.choices("isrp", (60, 25, 13, 2))[0]:
            case "i":
                for packet in mutator.inbox(self.incarnation, call_id):
                    self.inbox.send_waiting(packet)
            case "s":
                packets, fds = mutator.side(self.incarnation, call_id)
                for packet in packets:
                    if fds:
                        self.side.send_with(packet, tuple(fds))
                    else:
                        self.side.send_waiting(packet)
                channel.close_all(fds)
            case "r":
                mutator.ring(self.ring, self.slots, self.incarnation, [call_id])
            case _:
                mutator.page(self.slots, call_id)


def hostile(number: int, seed: int, count: int) -> int:
    worker, chance = Worker(), random.Random(f"{seed}/{number}")
    for _ in range(count):
        worker.spoil(chance)
    return number


def honest(number: int) -> int:
    return number * number


def never_over():
    worker = Worker()
    worker.slots[status_page.STARTED_NS] = 2**63 - 1
    time.sleep(600)


def tells_for_ever_that_it_is_ready():
    worker = Worker()
    while True:
        worker.inbox.send_waiting(frames.pack(Kind.BOOTED, worker.incarnation))


def retires_and_stays():
    worker = Worker()
    running = worker.slots[status_page.RUNNING]
    outcome = frames.pack_outcome(worker.incarnation, running, frames.FLAG_RETIRING, 0, (0, 0, 0, 0), b"")
    worker.inbox.send_waiting(outcome)
    time.sleep(600)


def asks_for_ever():
    worker = Worker()
    while True:
        worker.side.send_waiting(frames.pack(Kind.REQUEST, worker.incarnation, 0, b"x", 2**31))
        worker.side.receive_with_waiting(1000)


def forge_status(status):
    worker = Worker()
    running = worker.slots[status_page.RUNNING]
    worker.inbox.send_waiting(frames.pack_outcome(worker.incarnation, running, status, 0, (0, 0, 0, 0), b"\0" * 100))


def harass(count: int, seed: int, workers: int = 2) -> dict[str, float]:
    """A run in which tasks send so many hostile frames, by one or eight, among others; raises if those come to harm."""
    before = len(os.listdir("/proc/self/fd"))
    pipeline = Pipeline("harassed")
    tasks = count * 2 // 9
    for number in range(tasks):
        pipeline.add_task(Task(f"bad {number}", hostile, (number, seed, 8 if number % 2 else 1), timeout=60))
        pipeline.add_task(Task(f"good {number}", honest, (number,), retries=50))
    began = time.monotonic()
    with ProcessExecutor(workers, kill_grace_s=0.2, preload=["wire_hostile"]) as executor:
        run = pipeline.run(executor=executor, timeout=60 + count / 10)
    assert run.status != "CANCELLED", "it hangs"
    for number in range(tasks):
        good = run.tasks[f"good {number}"]
        assert good.status == "SUCCESS", f"{good.name}: {good.error}"
        assert run[good.name] == honest(number)
        if (name := f"bad {number}") in run:
            try:
                run[name]
            except PayloadError:
                continue  # it had sent that as its result
    pids = {attempt.worker_pid for task in run.tasks.values() for attempt in task.attempts}
    assert tasks / 10 < len(pids) <= tasks + workers
    left = len(os.listdir("/proc/self/fd")) - before
    assert left <= 0, f"{left} descriptors left"
    return {"frames": count, "workers": len(pids), "seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    for first in range(0, arguments.frames, 1000):  # each with a record of its own
        print(harass(min(1000, arguments.frames - first), seed + first), flush=True)


if __name__ == "__main__":
    main()
