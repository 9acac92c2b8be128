"""Races about the ring of outcomes: its worker counts on a packet that never comes, or on a look that has just been.

R2, R3 and R5. All orders are forced at failpoints.
"""

from __future__ import annotations

import select
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

from race_parts import WARM, pool_client

from dremioframe.orchestration.pool import ring
from dremioframe.orchestration.pool.events import CallEnded, CallLost, CallReturned
from dremioframe.orchestration.pool.ring import RingReader

NEXT = WARM + 1

pytestmark = [
    pytest.mark.usefixtures("sent_ahead"),
    pytest.mark.skipif(not ring.IS_ORDERED, reason="this machine does not keep the order of stores: no ring is used"),
]


def is_readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 60)[0])


def test_r2_killed_when_its_outcome_is_written_and_not_yet_counted(arm: Any, gate: Any, tmp_path: Path) -> None:
    """The other way about the coordinator would read what is not there, or not whole."""
    arm(**{"worker.received": f"{gate.action}@{NEXT}", "ring.between": f"kill!{tmp_path / 'killed'}"})
    with pool_client() as client:
        first = client.submit("out = b'unheard'")
        pid = gate.wait()
        others = [client.submit(f"out = b'{n}'") for n in range(3)]  # with these in hand it writes to the ring
        gate.open()
        event = client.end(first)
        assert isinstance(event, CallLost)
        assert (event.pid, event.signal, "SIGKILL" in event.description) == (pid, signal.SIGKILL, True)
        assert [bytes(client.end(call_id).payload) for call_id in others] == [b"0", b"1", b"2"]
        assert client.returned == others


def test_r5_calls_are_taken_back_when_their_worker_has_just_counted_on_them(arm: Any, gate: Any) -> None:
    """It writes to the ring because more calls wait; by then none does, and nobody looks at rings unasked."""
    arm(**{"worker.may_wait": f"{gate.action}@{NEXT}"})
    with pool_client() as client:
        first = client.submit("ports.request(b'held until the second is there'); out = b'untouched'")
        second = client.submit("out = b'never'")
        client.until(lambda: client.heard)
        gate.wait()
        client.lease.stop(second, dump=False)
        assert isinstance(client.end(second, resubmit=False), CallReturned)
        [worker] = client.workers
        while client.lease._floor.recheck_due < client.lease._turn(0):
            pass  # the look that follows upon taking back: it finds nothing
        gate.open()
        assert is_readable(worker.inbox.fd)
        assert bytes(client.end(first).payload) == b"untouched"


def test_r3_an_outcome_goes_to_the_ring_between_the_look_there_and_at_the_packets(
    arm: Any, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The packet that was to make somebody look is read at once, and with it goes the reason to look."""
    receive = RingReader.receive
    looks = 0

    def too_early(reader: RingReader) -> bytes | None:
        nonlocal looks
        looks += 1
        if looks > 1:
            return receive(reader)
        gate.open()
        assert is_readable(client.workers[0].inbox.fd)
        return None

    arm(**{"worker.received": f"{gate.action}@{NEXT}"})
    with pool_client() as client:
        calls = [client.submit(f"out = b'{n}'") for n in range(4)]
        gate.wait()
        monkeypatch.setattr(RingReader, "receive", too_early)
        client.lease._intake.drain(client.workers[0])
        ended = [event.call_id for event in client.lease._floor.events if isinstance(event, CallEnded)]
        assert sorted(ended) == calls


def test_o1_a_worker_that_asks_for_looks_without_end_is_ended() -> None:
    with pool_client(warm=1) as client:
        liar = client.submit("""
            from dremioframe.orchestration.pool import frames
            import gc
            worker = next(each for each in gc.get_objects() if type(each).__name__ == "_Worker")
            for _ in range(10):
                worker._inbox.send_waiting(frames.pack(frames.Kind.LOOK, worker._incarnation))
        """)
        assert "asks for more looks" in client.end(liar).description
        assert client.run("out = b'fine'") == b"fine"
