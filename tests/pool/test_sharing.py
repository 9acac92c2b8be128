"""Leases that come and go: nobody keeps less than is there, nobody owes for ever."""

from __future__ import annotations

import os
from itertools import count

import pytest


@pytest.mark.parametrize("timeout_s", [3e6, 1e12, 1e300])
def test_a_timeout_may_be_longer_than_epoll_can_sleep(client, timeout_s):
    call_id = client.submit("out = b'done'", timeout_s=timeout_s)
    client.until(lambda: client.started_at(call_id) is not None or call_id in client.ended)
    while call_id not in client.ended:
        client.turn(timeout_s)
    assert bytes(client.end(call_id).payload) == b"done"


@pytest.fixture
def held(tmp_path):
    """Calls that run until they are let go."""

    class Held:
        def __init__(self):
            self.fifos = []
            self.names = count()

        def submit(self, client):
            fifo = tmp_path / f"held{next(self.names)}"
            os.mkfifo(fifo)
            self.fifos.append(fifo)
            return client.submit(f"open({str(fifo)!r}).read()")

        def let_go(self):
            while self.fifos:
                self.fifos.pop().write_bytes(b"")

    return Held()


def saturate(client, held, workers):
    calls = [held.submit(client) for _ in range(workers)]
    client.until(lambda: all(client.started_at(call_id) is not None for call_id in calls))
    return calls


def test_a_lease_is_back_at_full_width_when_another_has_come_and_gone(make_pool, connect, held):
    pool = make_pool(size=2)
    client = connect(pool)
    calls = saturate(client, held, 2)
    other = connect(pool)
    other.submit("pass")
    client.turn(0)
    assert [worker.leaving for worker in client.workers].count(True) == 1
    other.lease.close()
    held.let_go()
    client.until(lambda: all(call_id in client.ended for call_id in calls))
    saturate(client, held, 2)
    held.let_go()


def test_a_lease_that_left_hungry_is_owed_nothing(make_pool, connect, held):
    pool = make_pool(size=1)
    client = connect(pool)
    [call_id] = saturate(client, held, 1)
    other, third = connect(pool), connect(pool)
    other.submit("pass")
    assert client.lease._share.owed == 1
    other.lease.close()
    assert client.lease._share.owed == 0
    client.turn(0)
    assert not client.workers[0].leaving
    held.let_go()
    client.end(call_id)
    third.lease.close()


def test_what_nobody_else_needs_may_be_used_beyond_the_fair_share(make_pool, connect, held):
    pool = make_pool(size=2)
    idle, client = connect(pool), connect(pool)
    calls = saturate(client, held, 2)
    wanted = idle.submit("out = b'mine'")
    client.turn(0)
    assert [worker.leaving for worker in client.workers].count(True) == 1
    held.let_go()
    client.until(lambda: all(call_id in client.ended for call_id in calls))
    client.turn(0)
    assert bytes(idle.end(wanted).payload) == b"mine"
