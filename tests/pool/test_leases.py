"""Several leases of one pool at once: fair shares, turns, and idle workers that change hands. A2."""

from __future__ import annotations

import threading

import pytest
from pool_client import Client

from dremioframe.orchestration.pool.events import CallEnded


def drive(pool, count, results, errors):
    try:
        client = Client(pool)
        try:
            calls = [client.submit(f"out = b'{n}'") for n in range(count)]
            client.until(lambda: len(client.ended) == count)
            results.append([bytes(client.end(call_id).payload) for call_id in calls])
        finally:
            client.lease.close()
    except BaseException as error:
        errors.append(error)


@pytest.mark.parametrize(("size", "leases"), [(1, 4), (2, 2), (2, 5), (4, 3)])
def test_a2_several_leases_in_several_threads(make_pool, size, leases):
    pool = make_pool(size=size)
    results, errors = [], []
    threads = [threading.Thread(target=drive, args=(pool, 100, results, errors)) for _ in range(leases)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert results == [[str(n).encode() for n in range(100)]] * leases
    assert len(pool._capacity._owners) <= size


def test_a2_fair_shares(make_pool, connect):
    """A lease that came second gets its half as soon as calls of the first end."""
    pool = make_pool(size=2)
    first = connect(pool)
    held = [first.start("import time; time.sleep(0.1)") for _ in range(2)]
    assert len(first.workers) == 2
    second = connect(pool)
    call_id = second.submit("out = b'second'")
    stop = threading.Event()

    def keep_first_busy():
        while not stop.is_set():
            if not first.ready:
                first.submit("import time; time.sleep(0.01)")
            first.turn(0.05)

    thread = threading.Thread(target=keep_first_busy)
    thread.start()
    try:
        assert bytes(second.end(call_id).payload) == b"second"
        assert len(second.workers) == 1
    finally:
        stop.set()
        thread.join()
    for call_id in held:
        assert isinstance(first.end(call_id), CallEnded)


def test_more_leases_than_workers_take_turns(make_pool, connect):
    """The only worker belongs to a lease that always has work; the other gets it all the same."""
    pool = make_pool(size=1)
    stop = threading.Event()
    greedy = connect(pool)
    greedy.run("pass")

    def never_idle():
        while not stop.is_set():
            while len(greedy.ready) < 50:
                greedy.submit("pass")
            greedy.turn(0.05)

    thread = threading.Thread(target=never_idle)
    thread.start()
    try:
        modest = connect(pool)
        for n in range(5):
            assert modest.run(f"out = b'{n}'") == str(n).encode()
    finally:
        stop.set()
        thread.join()


def test_idle_workers_of_one_lease_serve_another(make_pool, connect):
    pool = make_pool(size=2)
    idle = connect(pool)
    calls = [idle.submit("import time; time.sleep(0.05)") for _ in range(2)]
    for call_id in calls:
        idle.end(call_id)
    assert len(idle.workers) == 2
    busy = connect(pool)
    call_id = busy.submit("out = b'got one'")
    thread = threading.Thread(target=lambda: [idle.turn(0.05) for _ in range(20)])
    thread.start()
    try:
        assert bytes(busy.end(call_id).payload) == b"got one"
    finally:
        thread.join()


def test_max_workers_of_a_lease(make_pool, connect):
    client = connect(make_pool(size=4), max_workers=2)
    calls = [client.submit("import os, time; time.sleep(0.02); out = str(os.getpid()).encode()") for _ in range(12)]
    client.until(lambda: len(client.ended) == 12)
    assert len({bytes(client.end(call_id).payload) for call_id in calls}) == 2
