"""The ring of outcomes: its two ends, and what a crash, a take-back or a vandal does to a run that uses it."""

from __future__ import annotations

import os
import random
from collections import deque

import pytest
from pool_waiting import gone

from dremioframe.orchestration.pool import frames, ring, status_page
from dremioframe.orchestration.pool.events import CallLost
from dremioframe.orchestration.pool.frames import Kind, ProtocolError
from dremioframe.orchestration.pool.ring import RingReader, RingWriter
from dremioframe.orchestration.pool.status_page import RING_BYTES, StatusPage


@pytest.fixture
def page():
    ours = StatusPage.create("test")
    yield ours
    ours.close()


@pytest.fixture
def worker_page(page):
    workers = StatusPage.attach(os.dup(page.fd))
    yield workers
    workers.close()


def frame(number, size):
    return frames.pack(Kind.OUTCOME, 1, number, bytes([number % 251]) * size)


def test_frames_come_out_as_they_went_in_whatever_their_lengths_and_however_often_it_goes_round(page, worker_page):
    writer, reader = RingWriter(worker_page), RingReader(page)
    chance = random.Random(7)
    inside: deque[bytes] = deque()
    refused = 0
    for number in range(1, 20_000):
        one = frame(number, chance.choice((0, 1, 7, 8, 60, chance.randrange(2_000))))
        if writer.put(one):
            inside.append(one)
        else:
            refused += 1
        while inside and chance.random() < 0.45:
            assert reader.receive() == inside.popleft()
    while inside:
        assert reader.receive() == inside.popleft()
    assert reader.receive() is None
    assert reader.is_empty
    assert refused > 100  # it has been full


def test_a_full_ring_refuses_and_takes_again_what_has_been_read(page, worker_page):
    writer, reader = RingWriter(worker_page), RingReader(page)
    count = 0
    while writer.put(frame(count, 988)):
        count += 1
    assert count == RING_BYTES // 1024 - (RING_BYTES % 1024 > 0)
    assert reader.receive() == frame(0, 988)
    assert writer.put(frame(count, 988))
    assert not writer.put(frame(count, 988))


@pytest.mark.parametrize("written", [1, 8, RING_BYTES, RING_BYTES + 8, 2**64 - 8])
def test_a_position_that_cannot_be_is_an_error(page, worker_page, written):
    worker_page.slots[status_page.WRITTEN] = written
    with pytest.raises(ProtocolError, match="ring"):
        RingReader(page).receive()


@pytest.mark.parametrize("length", [100, RING_BYTES, 2**32 - 1])
def test_a_frame_longer_than_what_was_written_is_an_error(page, worker_page, length):
    assert RingWriter(worker_page).put(frame(1, 8))
    worker_page.ring[16:20] = length.to_bytes(4, "little")
    with pytest.raises(ProtocolError, match="ring"):
        RingReader(page).receive()


def test_random_bytes_are_an_error_or_frames_and_never_more(page, worker_page):
    chance = random.Random(11)
    for _ in range(500):
        worker_page.ring[:] = chance.randbytes(RING_BYTES)
        worker_page.slots[status_page.WRITTEN] = chance.choice((chance.randrange(2**64), chance.randrange(RING_BYTES)))
        reader = RingReader(page)
        try:
            while (received := reader.receive()) is not None:
                assert frames.HEADER_SIZE <= len(received) <= RING_BYTES
        except ProtocolError:
            continue


def test_the_reader_believes_a_skip_only_within_what_was_written(page, worker_page):
    worker_page.slots[status_page.WRITTEN] = 64
    assert bytes(worker_page.ring[:8]) == bytes(8)
    with pytest.raises(ProtocolError, match="ring"):
        RingReader(page).receive()


@pytest.mark.usefixtures("sent_ahead")
def test_a_worker_with_more_to_do_does_not_wake_the_coordinator_for_each_outcome(client, monkeypatch):
    if not ring.IS_ORDERED:
        pytest.skip("this machine does not keep the order of stores: all outcomes are packets")
    through_ring = []
    receive = RingReader.receive

    def counting(self):
        packet = receive(self)
        if packet is not None:
            through_ring.append(packet)
        return packet

    monkeypatch.setattr(RingReader, "receive", counting)
    for _ in range(5):  # until the window is wide
        client.run("pass")
    client.submit("ports.request(b'held until somebody looks')")
    calls = [client.submit(f"out = b'{n}'") for n in range(100)]
    assert [bytes(client.end(call_id).payload) for call_id in calls] == [str(n).encode() for n in range(100)]
    assert len(through_ring) >= 90


@pytest.mark.usefixtures("sent_ahead")
def test_o1_what_a_worker_had_finished_when_it_was_killed_counts_and_runs_once(client, tmp_path):
    """Its outcomes were in the ring, and nobody had been woken for them."""
    warm = [client.submit("out = b''") for _ in range(200)]  # so that calls are sent ahead
    client.until(lambda: len(client.ended) == len(warm))
    note = f"open({str(tmp_path / 'ran')!r}, 'a').write('%d ')"
    calls = [client.submit(f"{note % n}; out = b'{n}'") for n in range(6)]
    dies = client.submit("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    calls += [client.submit(f"{note % n}; out = b'{n}'") for n in range(6, 12)]
    assert gone(client.workers[0].pid)  # so that its end is the first that is heard of it
    client.until(lambda: len(client.ended) == len(warm) + 13)
    assert [bytes(client.end(call_id).payload) for call_id in calls] == [str(n).encode() for n in range(12)]
    assert isinstance(client.end(dies), CallLost)
    assert sorted(map(int, (tmp_path / "ran").read_text().split())) == list(range(12))
