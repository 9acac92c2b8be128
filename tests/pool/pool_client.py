"""A client of a pool, which submits source code and waits for what becomes of it."""

from __future__ import annotations

import textwrap
import time
from itertools import count

from dremioframe.orchestration.pool.events import CallEnded, CallReturned

LIMIT_S = 60.0

#: A call that gives its process id.
PID = "import os; out = str(os.getpid()).encode()"

_ids = count(1)


def same_worker(client, pid):
    """Whether the next call runs in that process."""
    return int(client.run(PID)) == pid


class Client:
    """One lease, driven as the engine drives it."""

    def __init__(self, pool, on_request=None, max_workers=None):
        self.pool = pool
        self.heard = []
        self.lease = pool.lease(on_request or self._hear, max_workers)
        self.sources = {}
        self.timeouts = {}
        self.ready = []
        self.ended = {}
        self.returned = []

    def submit(self, source, timeout_s=None):
        """Have this source run; returns the call's id at once."""
        call_id = next(_ids)
        self.sources[call_id] = textwrap.dedent(source).encode()
        self.timeouts[call_id] = timeout_s
        self.ready.append(call_id)
        self.fill()
        return call_id

    def fill(self):
        room = self.lease.room() if self.ready else 0
        for call_id in self.ready[:room]:
            self.lease.submit(call_id, self.sources[call_id], self.timeouts[call_id])
        del self.ready[:room]

    def turn(self, timeout_s=1.0, awaited=None):
        """One wait; calls that never started are submitted again, except for the one that is awaited."""
        for event in self.lease.wait(timeout_s):
            if isinstance(event, CallReturned):
                self.returned.append(event.call_id)
                if event.call_id != awaited:
                    self.ready.append(event.call_id)
                    continue
            self.ended.setdefault(event.call_id, []).append(event)
        self.fill()

    def until(self, predicate, awaited=None):
        deadline = time.monotonic() + LIMIT_S
        while not predicate():
            assert time.monotonic() < deadline, f"nothing of the kind within {LIMIT_S:g} s; heard: {self.ended}"
            self.turn(0.05, awaited)

    def end(self, call_id, resubmit=True):
        """The one event that ends this call; without ``resubmit`` its return counts as that."""
        self.until(lambda: call_id in self.ended, None if resubmit else call_id)
        [event] = self.ended[call_id]
        return event

    def run(self, source, **options):
        """Run to the end; returns the payload of a call that is expected to succeed.

        What a worker sends may be heard before its birth. Here that is awaited, too: until then nobody can know whether
        the process is alive.
        """
        event = self.end(self.submit(source, **options))
        self.until(lambda: all(worker.pidfd >= 0 or worker.exit is not None for worker in self.workers))
        assert isinstance(event, CallEnded), event
        payload = event.payload if event.segment is None else event.segment.read()
        if event.segment is not None:
            event.segment.close()
        assert event.status == 0, bytes(payload)
        return bytes(payload)

    def start(self, source, **options):
        """Submit, and wait until the call runs."""
        call_id = self.submit(source, **options)
        self.until(lambda: self.started_at(call_id) is not None)
        return call_id

    def started_at(self, call_id):
        """When the call began to run, CLOCK_MONOTONIC seconds; None while it waits, and when it is over."""
        for worker in self.workers:
            running, started_ns = worker.running()
            if running == call_id:
                return started_ns / 1e9
        return None

    def _hear(self, call_id, body):
        self.heard.append(body.decode())
        return b""

    def hear(self):
        """Wait for the next thing that a running call says by ``ports.request``."""
        self.until(lambda: self.heard)
        return self.heard.pop(0)

    @property
    def workers(self):
        return list(self.lease._floor.workers.values())
