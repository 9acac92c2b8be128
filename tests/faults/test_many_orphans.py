"""A worker that leaves more behind than can be looked at one by one: the fork server goes on meanwhile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))

from race_parts import gone, pool_client

from dremioframe.orchestration.pool.events import CallLost

#: Each takes as long as there are children, so one for every child takes far too long.
LISTINGS = 12

DEAD = """
import os
for n in range(100):
    if os.fork() == 0:
        os._exit(0)
while len([c for c in open(f"/proc/self/task/{os.getpid()}/children").read().split()
           if ") Z" in open(f"/proc/{c}/stat").read()]) < 100: pass
os._exit(1)
"""

LIVING = """
import os, time
read, write = os.pipe()
for n in range(100):
    if os.fork() == 0:
        os.setsid()
        os.write(write, b"%d " % os.getpid())
        time.sleep(600)
pids = b""
while pids.count(b" ") < 100: pids += os.read(read, 10000)
ports.request(pids)
os._exit(1)
"""


def test_u17_a_hundred_zombies_of_a_dead_worker_are_buried_together(arm: Any) -> None:
    arm(**{"zygote.children": f"kill@{LISTINGS}"})
    with pool_client(warm=1) as client:
        zygote = client.pool._capacity.zygote
        assert isinstance(client.end(client.submit(DEAD)), CallLost)
        assert client.run("out = b'goes on'") == b"goes on"
        assert client.pool._capacity.zygote is zygote


def test_u17_a_hundred_living_daemons_of_a_dead_worker_end_before_that_is_told() -> None:
    with pool_client(warm=1) as client:
        zygote = client.pool._capacity.zygote
        call_id = client.submit(LIVING)
        pids = [int(word) for word in client.hear().split()]
        assert isinstance(client.end(call_id), CallLost)
        assert all(map(gone, pids))
        assert client.run("out = b'goes on'") == b"goes on"
        assert client.pool._capacity.zygote is zygote
