"""Pools for tests, clients of theirs, and programs that use one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dremioframe.orchestration.pool.process_pool import PoolOptions, ProcessPool

# Workers import their runner, and tests what they share, from this folder.
HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)

from pool_client import LIMIT_S, PID, Client  # noqa: E402


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


@pytest.fixture
def pid(client):
    """The process id of that client's worker."""
    return int(client.run(PID))


class Script:
    """A program of its own that uses a pool: a coordinator that may be killed."""

    def __init__(self, body, cwd, options):
        options = {"size": 2, "runner": "pool_runner:make_runner", "kill_grace_s": 0.2, **options}
        source = f"""
import os, sys, time
sys.path[:0] = [{HERE!r}, {os.getcwd()!r}, os.getcwd()]
from pool_client import Client
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
