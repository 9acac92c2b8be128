"""Pools for tests, and a client that submits source code and waits for what becomes of it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from itertools import count
from pathlib import Path

import pytest

from dremioframe.orchestration.pool.events import CallEnded, CallReturned
from dremioframe.orchestration.pool.process_pool import PoolOptions, ProcessPool

# Workers import their runner, and tests what they wait with, from this folder.
HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)

LIMIT_S = 60.0

_ids = count(1)


@pytest.fixture
def make_pool():
    """Pools with options of one's own, closed at the end."""
    pools = []

    def make(size=1, runner="pool_runner:make_runner", **options):
        options.setdefault("kill_grace_s", 0.2)
        pool = ProcessPool(PoolOptions(size=size, runner=runner, **options))
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def connect():
    """Clients of pools, closed at the end."""
    clients = []

    def make(pool, on_request=None, max_workers=None):
        client = Client(pool, on_request, max_workers)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.lease.close()


@pytest.fixture
def client(make_pool, connect):
    """A client of a pool of one worker."""
    return connect(make_pool())


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
        """Run to the end; returns the payload of a call that is expected to succeed."""
        event = self.end(self.submit(source, **options))
        assert isinstance(event, CallEnded), event
        payload = event.payload if event.segment is None else event.segment.read()
        if event.segment is not None:
            event.segment.close()
        assert event.status == 0, bytes(payload)
        return bytes(payload)

    def start(self, source, **options):
        """Submit, and wait until the call runs."""
        call_id = self.submit(source, **options)
        self.until(lambda: self.lease.started_at(call_id) is not None)
        return call_id

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


class Script:
    """A program of its own that uses a pool: a coordinator that may be killed."""

    def __init__(self, body, cwd, options):
        options = {"size": 2, "runner": "pool_runner:make_runner", "kill_grace_s": 0.2, **options}
        source = f"""
import os, sys, time
sys.path[:0] = [{HERE!r}, {os.getcwd()!r}, os.getcwd()]
from conftest import Client
from dremioframe.orchestration.pool.process_pool import PoolOptions, ProcessPool
def tell(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
def wait():
    tell("zygote", pool._capacity.zygote.pid)
    time.sleep(600)
pool = ProcessPool(PoolOptions(**{options!r}))
{textwrap.dedent(body)}
"""
        self.process = subprocess.Popen(
            [sys.executable, "-c", source],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            text=True,
        )

    def hear(self):
        return self.process.stdout.readline().split()

    def hear_zygote(self):
        word, pid = self.hear()
        assert word == "zygote"
        return int(pid)

    def kill(self, signum=9):
        self.process.send_signal(signum)

    def finish(self):
        """(exit status, what it wrote to stderr), when it has ended."""
        _, errors = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, errors


@pytest.fixture
def script(tmp_path):
    """Programs, ended at the end."""
    programs = []

    def make(body, cwd=None, **options):
        programs.append(Script(body, cwd or tmp_path, options))
        return programs[-1]

    yield make
    for program in programs:
        program.process.kill()
        program.process.communicate()
