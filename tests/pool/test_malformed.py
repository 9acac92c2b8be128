"""A worker that sends nonsense costs that worker, never the run. F15 end to end."""

from __future__ import annotations

import pytest

from dremioframe.orchestration.pool.events import CallLost

SEND = """
import os, socket, stat
from dremioframe.orchestration.pool import frames
sockets = [fd for fd in map(int, sorted(os.listdir("/proc/self/fd"), key=int))
           if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}") and stat.S_ISSOCK(os.stat(fd).st_mode)]
inbox, side = (socket.socket(fileno=os.dup(fd)) for fd in sockets)
incarnation = ports._incarnation
"""


@pytest.mark.parametrize(
    "source",
    [
        "inbox.send(b'x')",
        "inbox.send(b'\\0' * 100)",
        "inbox.send(b'x' * 100_000)",
        "inbox.send(frames.pack(frames.Kind.OUTCOME, incarnation, call_id))",
        "inbox.send(frames.pack_outcome(incarnation, 424242, 0, 0, (0, 0, 0, 0), b''))",
        "inbox.send(frames.pack_outcome(incarnation + 1, call_id, 0, 0, (0, 0, 0, 0), b''))",
        "inbox.send(frames.pack_outcome(incarnation, call_id, 0, 0, (0, 0, 0, 0), b'xy')[:-1])",
        "inbox.send(frames.pack_outcome(incarnation, call_id, 0, 0, (0, 0, 0, 0), b'') + b'x')",
        "inbox.send(b'\\0' + frames.pack_outcome(incarnation, call_id, 0, 0, (0, 0, 0, 0), b'')[1:])",
        "inbox.send(frames.pack(frames.Kind.CALL, incarnation, call_id, bytes(100)))",
        "inbox.send(frames.pack_outcome(incarnation, call_id, frames.FLAG_SEGMENT, 0, (0, 0, 0, 0), b''))",
        "inbox.send(frames.pack(frames.Kind.UNDELIVERABLE, incarnation, 424242))",
        "inbox.send(frames.pack(frames.Kind.EXITED, incarnation))",
        "side.send(b'nonsense')",
        "side.send(frames.pack(frames.Kind.RESULT, incarnation, call_id))",
        "socket.send_fds(side, [frames.pack(frames.Kind.RESULT, incarnation, call_id)], [0])",
        "socket.send_fds(side, [frames.pack(frames.Kind.RESULT, incarnation, call_id)], [0, 1, 2])",
        "for n in range(100_000): side.send(frames.pack(frames.Kind.REQUEST, incarnation, call_id))",
    ],
)
def test_f15_malformed_packets(client, source):
    call_id = client.submit(SEND + source + "\nimport time; time.sleep(600)")
    event = client.end(call_id)
    assert isinstance(event, CallLost), event
    assert "malformed" in event.description or "ended because" in event.description
    assert client.run("out = b'next'") == b"next"


def test_f15_an_outcome_whose_segment_never_came_does_not_make_its_call_run_again(client, tmp_path):
    """The call has ended on the worker, which then clears its page: it must not pass for one that never started."""
    marks = tmp_path / "marks"
    source = f"""
        open({str(marks)!r}, "a").write("ran ")
        type(ports).send_result = lambda self, call_id, fd: None
        out = b"x" * 100_000
    """
    event = client.end(client.submit(source))
    assert isinstance(event, CallLost)
    assert client.run("out = b'next'") == b"next"
    assert marks.read_text() == "ran "
