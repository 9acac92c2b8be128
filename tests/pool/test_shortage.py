"""A machine that is short of memory: one call at a time, never none, and all of them again when it is over."""

from __future__ import annotations

import os
import time

import pytest

from dremioframe.orchestration.pool import shortage, window
from dremioframe.orchestration.pool.events import MemoryShort
from dremioframe.orchestration.pool.memory import Memory
from dremioframe.orchestration.pool.shortage import Gauge, Shortage

GIB, MIB = 1 << 30, 1 << 20
PLENTY, SHORT = Memory(8 * GIB, 16 * GIB), Memory(200 * MIB, 16 * GIB)


class Machine:
    """What the pool is told of the machine's memory."""

    def __init__(self, memory):
        self.memory = memory
        self.looks = 0

    def __call__(self):
        self.looks += 1
        return self.memory


class Gates:
    """Calls that wait, each for a FIFO of its own."""

    def __init__(self, folder):
        self.folder, self.count = folder, 0

    def source(self):
        path = str(self.folder / f"gate{self.count}")
        self.count += 1
        os.mkfifo(path)
        return f"open({path!r}).read()", path


@pytest.fixture
def gates(tmp_path):
    return Gates(tmp_path)


def running(client):
    return [call_id for call_id in client.sources if client.started_at(call_id) is not None]


def told(client):
    return [event for events in client.ended.values() for event in events if isinstance(event, MemoryShort)]


def open_gate(path):
    with open(path, "w"):
        pass


def test_one_at_a_time_while_it_is_short_and_all_when_it_is_over(make_pool, connect, gates):
    machine = Machine(SHORT)
    client = connect(make_pool(size=3, machine_memory=machine))
    calls, paths = [], []
    for _ in range(4):
        source, path = gates.source()
        calls.append(client.submit(source))
        paths.append(path)
    client.until(lambda: running(client))
    for _ in range(5):
        client.turn(0.05)
        assert running(client) == calls[:1], "the first, and nothing beside it"
    open_gate(paths[0])
    client.end(calls[0])
    client.until(lambda: running(client) == calls[1:2])
    machine.memory = PLENTY
    client.until(lambda: running(client) == calls[1:4])  # though nothing has ended: somebody has looked again
    for path in paths[1:]:
        open_gate(path)
    for call in calls[1:]:
        client.end(call)
    assert len(told(client)) == 1
    assert "200 MiB of 16,384 MiB are left, the floor is 256 MiB" in told(client)[0].text


def test_what_waits_behind_a_running_call_is_taken_back(make_pool, connect, gates, monkeypatch):
    monkeypatch.setattr(window, "_AHEAD_NS", 10**12)  # the window is wide, however slow the machine is now
    machine = Machine(PLENTY)
    client = connect(make_pool(size=1, machine_memory=machine))
    for _ in range(50):  # until it is
        client.run("pass")
    source, path = gates.source()
    first = client.start(source)
    behind = [client.submit("pass") for _ in range(3)]
    machine.memory = SHORT
    later = client.submit("pass")
    client.until(lambda: client.returned or not client.workers[0].calls)
    client.until(lambda: list(client.workers[0].calls) == [first])
    open_gate(path)
    for call in [first, *behind, later]:
        client.end(call)


def test_it_does_not_wait_for_what_is_not_running(make_pool, connect):
    machine = Machine(SHORT)
    client = connect(make_pool(size=2, machine_memory=machine))
    assert [client.run(f"out = b'{i}'") for i in range(20)] == [b"%d" % i for i in range(20)]
    crash = client.submit("import os; os._exit(1)")
    client.end(crash)
    assert client.run("out = b'on'") == b"on"


def test_another_runs_calls_do_not_count(make_pool, connect, gates):
    pool = make_pool(size=2, machine_memory=Machine(SHORT))
    source, path = gates.source()
    first, second = connect(pool), connect(pool)
    waiting = first.start(source)
    assert second.run("out = b'1'") == b"1"
    open_gate(path)
    first.end(waiting)


def test_it_is_looked_at_ten_times_a_second_at_most(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(shortage, "_monotonic", lambda: now[0])
    machine = Machine(PLENTY)
    short = Shortage(Gauge(machine))
    for _ in range(1000):
        now[0] += 0.001
        assert not short.is_on()
    assert machine.looks <= 10
    machine.memory = SHORT
    now[0] += 0.1
    assert short.is_on()
    assert short.story()
    assert not short.story(), "once"
    machine.memory = PLENTY
    assert short.is_on(), "as far as is known"
    now[0] += 0.1
    assert not short.is_on()
    machine.memory = SHORT
    now[0] += 0.1
    assert short.is_on()
    assert not short.story()


@pytest.mark.parametrize(
    ("available", "total", "expected"),
    [
        (255 * MIB, 16 * GIB, True),
        (256 * MIB, 16 * GIB, False),
        (26 * MIB, 512 * MIB, False),  # a small container: a twentieth of it
        (25 * MIB, 512 * MIB, True),
        (0, 512 * MIB, True),
        (1 << 60, 1 << 60, False),  # nothing is known
    ],
)
def test_where_short_begins(available, total, expected):
    assert Shortage(Gauge(lambda: Memory(available, total))).is_on() == expected


def test_no_descriptor_to_look_by_is_another_shortage():
    def look():
        raise OSError(24, "Too many open files")

    assert not Shortage(Gauge(look)).is_on()


def test_an_idle_lease_does_not_wake_for_it(make_pool, connect):
    client = connect(make_pool(size=1, machine_memory=Machine(SHORT)))
    client.run("pass")
    before = time.monotonic()
    client.lease.wait(0.35)
    assert time.monotonic() - before >= 0.3
