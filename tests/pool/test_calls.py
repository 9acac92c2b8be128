"""Calls that go well: values of all sizes, questions, statistics, order, several at once."""

from __future__ import annotations

import os
import time

import pytest

from dremioframe.orchestration.payload.segments import Segment
from dremioframe.orchestration.pool import frames
from dremioframe.orchestration.pool.events import CallEnded, CallLost


def test_a_call_gives_what_its_runner_returned(client):
    event = client.end(client.submit("out, status = b'value', 7"))
    assert isinstance(event, CallEnded)
    assert bytes(event.payload) == b"value"
    assert event.status == 7
    assert event.pid not in (0, os.getpid())


@pytest.mark.parametrize(
    "size", [0, 1, frames.INLINE_LIMIT - 1, frames.INLINE_LIMIT, frames.INLINE_LIMIT + 1, 5_000_000]
)
def test_payloads_of_all_sizes(client, size):
    event = client.end(client.submit(f"out = b'x' * {size}"))
    assert (event.segment is not None) == (size > frames.INLINE_LIMIT)
    assert event.bytes_out == size
    payload = event.segment.read() if event.segment else bytes(event.payload)
    assert payload == b"x" * size
    if event.segment:
        event.segment.close()


def test_parts_are_joined_and_views_of_numbers_counted_in_bytes(client):
    source = """
        import array
        numbers = memoryview(array.array("q", range(20_000)))
        out = [b"head", numbers]
    """
    assert client.run(source) == b"head" + b"".join(n.to_bytes(8, "little") for n in range(20_000))


@pytest.mark.parametrize("size", [1, 60_000, 199_000])
def test_bodies_up_to_the_limit(client, size):
    source = f"out = str(len(body)).encode()#{'x' * size}"
    assert client.run(source) == str(len(source)).encode()


def test_several_long_results_in_a_row_are_not_mixed_up(client):
    calls = [client.submit(f"out = b'{n}' * 100_000") for n in range(8)]
    for n, call_id in enumerate(calls):
        event = client.end(call_id)
        assert event.segment.read() == str(n).encode() * 100_000
        event.segment.close()


@pytest.mark.usefixtures("sent_ahead")
def test_long_results_that_are_heard_of_before_their_outcomes(client):
    """Several results may be on the side channel before the first of their outcomes is read from the inbox."""
    for _ in range(20):
        client.run("pass")  # opens the window
    calls = [client.submit(f"out = b'{n}' * 100_000") for n in range(3)]
    [worker] = client.workers
    deadline = time.monotonic() + 60
    while worker.page.running() != (0, worker.page.running()[1]) or len(worker.results) < 3:
        client.lease._desk.serve(worker)
        assert time.monotonic() < deadline
    for n, call_id in enumerate(calls):
        event = client.end(call_id)
        assert isinstance(event, CallEnded), event
        assert event.segment.read() == str(n).encode() * 100_000
        event.segment.close()


def test_statistics(client):
    before = time.monotonic()
    event = client.end(client.submit("sum(range(300_000)); out = b'12345'"))
    assert before <= event.started_at_s <= time.monotonic()
    assert 0 < event.wall_s < 30
    assert 0 < event.cpu_s <= event.wall_s + 0.1
    assert event.peak_memory_bytes > 1 << 20
    assert event.bytes_out == 5
    assert event.bytes_in == len(b"sum(range(300_000)); out = b'12345'")


def test_peak_memory_is_each_calls_own(client):
    first = client.end(client.submit("x = bytearray(64 << 20); out = b''"))
    second = client.end(client.submit("out = b''"))
    third = client.end(client.submit("x = bytearray(32 << 20); out = b''"))
    assert first.peak_is_exact
    assert second.peak_is_exact
    assert third.peak_is_exact
    assert first.peak_memory_bytes > 64 << 20
    assert second.peak_memory_bytes < 64 << 20
    assert 32 << 20 < third.peak_memory_bytes < 96 << 20


def test_one_thousand_calls_on_two_workers_each_end_once(make_pool, connect, tmp_path):
    os.mkfifo(tmp_path / "meeting")
    client = connect(make_pool(size=2))
    meeting = [client.submit(f"open({str(tmp_path / 'meeting')!r}, {mode!r}); out = b''") for mode in "rw"]
    calls = [client.submit(f"out = b'{n}'") for n in range(1000)]
    client.until(lambda: len(client.ended) == 1002)
    assert [bytes(client.end(call_id).payload) for call_id in calls] == [str(n).encode() for n in range(1000)]
    assert len({client.end(call_id).pid for call_id in meeting}) == 2  # neither opens it without the other


def test_workers_are_forked_only_as_needed(make_pool, connect):
    client = connect(make_pool(size=8))
    client.run("pass")
    client.run("pass")
    assert len(client.workers) == 1


# ------------------------------------------------------------------------------------------------------------ questions


def test_a_running_call_is_answered(make_pool, connect):
    asked = []

    def answer(call_id, body):
        asked.append((call_id, body))
        return body[::-1]

    client = connect(make_pool(), answer)
    call_id = client.submit("out = ports.request(b'abc')")
    assert bytes(client.end(call_id).payload) == b"cba"
    assert asked == [(call_id, b"abc")]
    assert client.end(call_id).bytes_in == len("out = ports.request(b'abc')") + 3


def test_a_long_answer_is_a_private_writable_mapping(make_pool, connect):
    client = connect(make_pool(), lambda call_id, body: b"a" * 300_000)
    source = """
        answer = ports.request(b"")
        assert type(answer) is memoryview and len(answer) == 300_000
        answer[0] = 66
        out = bytes(answer[:3])
    """
    assert client.run(source) == b"Baa"
    assert client.run(source) == b"Baa"


def test_a_segment_as_answer_stays_the_callers(make_pool, connect):
    segment = Segment.create([b"segment"], 7)
    client = connect(make_pool(), lambda call_id, body: segment)
    assert client.run("out = bytes(ports.request(b''))") == b"segment"
    assert segment.read() == b"segment"
    segment.close()


def test_an_error_while_answering_is_told_to_who_asked_and_to_nobody_else(make_pool, connect):
    def answer(call_id, body):
        raise KeyError("no such thing")

    client = connect(make_pool(), answer)
    event = client.end(client.submit("ports.request(b'x')"))
    assert event.status == 1
    assert bytes(event.payload) == b"""RequestFailed("KeyError: 'no such thing'")"""
    assert client.run("out = b'fine'") == b"fine"


def test_threads_of_a_call_may_ask(make_pool, connect):
    client = connect(make_pool(), lambda call_id, body: body * 2)
    source = """
        import threading
        answers = {}
        def ask(n):
            answers[n] = ports.request(str(n).encode())
        threads = [threading.Thread(target=ask, args=(n,)) for n in range(10)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        out = repr(all(answers[n] == str(n).encode() * 2 for n in range(10))).encode()
    """
    assert client.run(source) == b"True"


def test_an_interrupted_question_does_not_spoil_the_next(make_pool, connect):
    """The answer to a question whose asker was interrupted by a signal must not be taken for the next answer."""
    client = connect(make_pool(), lambda call_id, body: b"answer to " + body)
    source = """
        import signal
        class Interrupted(Exception): pass
        armed = False
        def interrupt(*_):
            if armed: raise Interrupted
        signal.signal(signal.SIGALRM, interrupt)
        for n in range(200):
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, 0.00001 * (n + 1))
                assert ports.request(b"%d" % n) == b"answer to %d" % n
                armed = False
            except Interrupted:
                pass
            signal.setitimer(signal.ITIMER_REAL, 0)
        out = ports.request(b"last")
    """
    assert client.run(source) == b"answer to last"


def test_the_question_of_a_thread_whose_call_is_over_is_refused(make_pool, connect):
    client = connect(make_pool(), lambda call_id, body: b"")
    first = client.submit("out = str(call_id).encode()")
    client.end(first)
    source = f"""
        try:
            ports.request(b"late", {first})
        except Exception as error:
            out = str(error).encode()
    """
    assert client.run(source) == b"the task that asks is over"


def test_a_result_that_cannot_be_handed_over_ends_its_call_only(client):
    source = """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        out = b"x" * 100_000
    """
    event = client.end(client.submit(source))
    assert isinstance(event, CallLost)
    assert "its result of 100000 bytes: [Errno 24]" in event.description
    assert client.run("out = b'alive'") == b"alive"
