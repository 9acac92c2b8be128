"""Random kills of workers and zygotes, with a printed seed: nothing is lost, nothing runs unaccounted for.

The short form of a long test: what it can find is found by the deterministic tests of this folder first. More seeds by
CHAOS_SEEDS=100-200 in the environment.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter

import pytest

from dremioframe.orchestration.pool.events import CallEnded, CallLost, CallStopped

CALLS = 300
FIRST, _, LAST = os.environ.get("CHAOS_SEEDS", "1-4").partition("-")

SOURCE = """
import os, time
marks = os.open(PATH, os.O_WRONLY | os.O_APPEND)
os.write(marks, b"%d\\n" % NUMBER)
os.close(marks)
until = time.monotonic() + DURATION
while time.monotonic() < until: pass
out = b"%d" % NUMBER * SIZE
"""


def kill_something(client, dice):
    """SIGKILL, or SIGSTOP followed by SIGKILL, to a worker; sometimes the zygote; sometimes stop one call."""
    workers = [worker for worker in client.workers if worker.pid]
    if not workers:
        return
    worker = dice.choice(workers)
    match dice.randrange(10):
        case 0:
            zygote = client.pool._capacity.zygote
            if zygote is not None:
                send(zygote.server_pid or zygote.pid, signal.SIGKILL)
        case 1 | 2:
            for call_id in list(worker.calls)[:1]:
                client.lease.stop(call_id, dump=dice.random() < 0.5)
        case 3:
            send(worker.pid, signal.SIGSTOP)
            send(worker.pid, signal.SIGKILL)
        case 4:
            send(worker.pid, signal.SIGTERM)
        case _:
            send(worker.pid, signal.SIGKILL)


def send(pid, signum):
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return


@pytest.mark.parametrize("seed", range(int(FIRST), int(LAST or FIRST) + 1))
def test_chaos(make_pool, connect, tmp_path, seed):
    print("seed", seed)
    dice = random.Random(seed)
    marks = tmp_path / "marks"
    marks.touch()
    client = connect(make_pool(size=dice.choice((2, 3)), kill_grace_s=dice.choice((0.0, 0.05))))
    numbers = {}
    for number in range(1, CALLS + 1):
        values = {
            "PATH": str(marks),
            "NUMBER": number,
            "DURATION": dice.choice((0, 0, 0.0005, 0.003)),
            "SIZE": dice.choice((1, 1, 1, 50_000)),
        }
        head = "".join(f"{name} = {value!r}\n" for name, value in values.items())
        numbers[client.submit(head + SOURCE)] = number, values["SIZE"]
        if dice.random() < 0.15:
            kill_something(client, dice)
        if dice.random() < 0.5:
            client.turn(0.001)
    client.until(lambda: len(client.ended) == CALLS)

    ran = Counter(int(line) for line in marks.read_text().splitlines())
    kinds = Counter()
    for call_id, (number, size) in numbers.items():
        [event] = client.ended[call_id]  # one end each, no more
        kinds[type(event)] += 1
        if isinstance(event, CallEnded):
            payload = event.segment.read() if event.segment else bytes(event.payload)
            assert payload == str(number).encode() * size
            assert ran[number] == 1
            if event.segment:
                event.segment.close()
        else:
            assert isinstance(event, CallLost | CallStopped)
            assert ran[number] <= 1  # a call that is told as lost or stopped is not run again by the pool
    assert kinds[CallEnded] > CALLS / 2
    assert client.run("out = b'fine'") == b"fine"
