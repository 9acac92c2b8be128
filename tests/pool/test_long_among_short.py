"""Nothing waits behind a long call while a worker is idle, wherever that call stands: on a virtual clock, and for real.

On the virtual clock the real ``Dispatch`` and the real ``Window`` run over simulated workers, so every place and many
mixtures can be tried. For real, the long task ends only when all short ones have: one that waited behind it would make
it run into its time-out.
"""

from __future__ import annotations

import os
import random
from collections import deque
from types import SimpleNamespace

import pytest

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task
from dremioframe.orchestration.pool.dispatch import Dispatch
from dremioframe.orchestration.pool.events import CallReturned
from dremioframe.orchestration.pool.floor import NEVER
from dremioframe.orchestration.pool.memory import Memory
from dremioframe.orchestration.pool.shortage import Gauge
from dremioframe.orchestration.pool.window import STALL_S, Window

SHORT_S, LONG_S, SHORTS = 0.001, 1.0, 200


class SimulatedWorker:
    """As ``Dispatch`` sees a worker; runs what it holds, one call after the other."""

    booted = accepting = True
    silent = False

    def __init__(self, clock, durations):
        self._clock = clock
        self._durations = durations
        self._inbox = deque()
        self._running = (0, 0.0)
        self.calls = {}
        self.sent = 0

    def send_call(self, call_id, body, timeout_s):
        self.calls[call_id] = timeout_s
        self._inbox.append(call_id)
        self.sent += 1
        self.go_on()
        return True

    def running(self):
        call_id, started_s = self._running
        return call_id, int(started_s * 1e9)

    @property
    def ends_at(self):
        call_id, started_s = self._running
        return started_s + self._durations[call_id] if call_id else NEVER

    def end(self):
        call_id, _ = self._running
        del self.calls[call_id]
        self._running = (0, 0.0)
        self.go_on()
        return call_id

    def go_on(self):
        if not self._running[0] and self._inbox:
            self._running = (self._inbox.popleft(), self._clock.now)

    def unread(self):
        calls = list(self._inbox)
        self._inbox.clear()
        for call_id in calls:
            del self.calls[call_id]
        return calls


class Simulation:
    """The loop of a lease over simulated workers."""

    def __init__(self, workers, durations):
        self.now = 0.0
        self.durations = durations
        self.window = Window()
        self.workers = [SimulatedWorker(self, durations) for _ in range(workers)]
        self.floor = SimpleNamespace(
            workers=dict(enumerate(self.workers)), events=[], take_back=self._take_back
        )  # fmt: skip
        capacity = SimpleNamespace(
            options=SimpleNamespace(max_calls_per_worker=None),
            gauge=Gauge(lambda: Memory(available=1 << 40, total=1 << 40)),
            growth=lambda share: 0,
            want=lambda share: None,
            retry_at=lambda: 0.0,
        )
        silence = SimpleNamespace(due=0.0)
        self.dispatch = Dispatch(self.floor, self.window, None, None, silence, None, capacity, None)
        self.ended_at = {}
        self.most_ahead = 0

    def _take_back(self, worker):
        self.floor.events += [CallReturned(call_id) for call_id in worker.unread()]

    def run(self):
        ready = deque(self.durations)
        while len(self.ended_at) < len(self.durations):
            ready.extendleft(event.call_id for event in reversed(self.floor.events))
            self.floor.events.clear()
            self.dispatch.forget_plan()
            for _ in range(min(self.dispatch.room(), len(ready)) if ready else 0):
                self.dispatch.submit(ready.popleft(), b"", None)
            self.most_ahead = max(self.most_ahead, *(len(worker.calls) for worker in self.workers))
            self._turn()
        return max(self.ended_at.values())

    def _turn(self):
        due = self.dispatch.due(self.now)
        first = min(self.workers, key=lambda worker: worker.ends_at)
        self.now = max(self.now, min(due, first.ends_at))
        if self.now >= first.ends_at:
            call_id = first.end()
            self.ended_at[call_id] = self.now
            self.window.observe(1, int(self.durations[call_id] * 1e9))
        elif self.now >= self.dispatch.crowd_due:
            self.dispatch.uncrowd(self.now)


def mixture(long_at, shorts=SHORTS, short_s=SHORT_S):
    durations = dict.fromkeys(range(1, shorts + 2), short_s)
    durations[long_at + 1] = LONG_S
    return durations


def last_short_end(simulation):
    return max(end for call_id, end in simulation.ended_at.items() if simulation.durations[call_id] < LONG_S)


@pytest.mark.parametrize("workers", [2, 4])
def test_on_the_virtual_clock_no_short_call_waits_for_the_long_one_in_any_place(workers):
    for place in range(SHORTS + 1):
        simulation = Simulation(workers, mixture(place))
        simulation.run()
        # At worst the others do all the short ones, and what stood behind the long one was noticed after a stall.
        others_alone_s = SHORTS * SHORT_S / (workers - 1)
        assert last_short_end(simulation) < others_alone_s + 4 * STALL_S, place


def test_on_the_virtual_clock_tiny_calls_are_sent_far_ahead_and_a_surprise_among_them_is_noticed():
    for place in (0, 1, 17, 1_000, 1_999, 2_000):
        simulation = Simulation(2, mixture(place, shorts=2_000, short_s=5e-6))
        simulation.run()
        assert simulation.most_ahead > 16
        assert last_short_end(simulation) < 2_000 * 5e-6 + 6 * STALL_S, place


@pytest.mark.parametrize("seed", range(40))
def test_on_the_virtual_clock_random_mixtures_take_little_more_than_a_greedy_list(seed):
    chance = random.Random(seed)
    durations = {
        call_id: chance.choice([2e-5, 2e-4, 1e-3, 1e-2, 0.2]) * chance.uniform(0.5, 2) for call_id in range(1, 300)
    }
    workers = chance.randint(2, 6)
    simulation = Simulation(workers, durations)
    took_s = simulation.run()
    # Graham's bound for any order without idle workers, and a stall for each time that something long was met.
    surprises = sum(duration > STALL_S for duration in durations.values())
    bound_s = sum(durations.values()) / workers + max(durations.values()) + 2 * STALL_S * surprises / workers
    assert took_s < bound_s


def short_task(fifo):
    with open(fifo, "wb", buffering=0) as pipe:
        pipe.write(b".")


def long_task(fifo, count):
    with open(fifo, "rb", buffering=0) as pipe:
        while count:
            count -= len(pipe.read(count))
    return "all others have ended"


@pytest.mark.parametrize("place", [0, 1, 100, SHORTS])
def test_for_real_no_short_task_waits_for_the_long_one(tmp_path, place):
    fifo = tmp_path / "ended"
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDWR)  # so that nobody waits for the other end
    tasks = [Task(f"short_{number}", short_task, (fifo,)) for number in range(SHORTS)]
    tasks.insert(place, Task("long", long_task, (fifo, SHORTS), timeout=60))
    pipeline = Pipeline("mixed")
    for task in tasks:
        pipeline.add_task(task)
    try:
        with ProcessExecutor(max_workers=2) as executor:
            run = pipeline.run(executor=executor, raise_on_failure=True)
    finally:
        os.close(held)
    assert run["long"] == "all others have ended"
