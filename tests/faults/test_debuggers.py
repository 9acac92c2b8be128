"""Processes that a debugger holds: one that has been killed stays a zombie for its parent until that lets go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.append(str(Path(__file__).parent))

from race_parts import eventually, gone, pool_client

from dremioframe.orchestration.pool import kinship, zygote_client
from dremioframe.orchestration.pool.events import CallEnded, CallLost

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Holds these processes (PTRACE_SEIZE) until its standard input ends.
TRACER = """
import ctypes, sys
ptrace = ctypes.CDLL(None).ptrace
print(max(-ptrace(0x4206, int(pid), None, None) for pid in sys.argv[1:]), flush=True)
sys.stdin.read()
"""

HANGS = """
import os, subprocess, time
child = subprocess.Popen(["sleep", "600"])
daemon = subprocess.Popen(["sleep", "600"], start_new_session=True)
ports.request(f"{os.getpid()} {child.pid} {daemon.pid}".encode())
time.sleep(600)
"""


@contextmanager
def debugger(*pids: int) -> Iterator[None]:
    command = [sys.executable, "-c", TRACER, *map(str, pids)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout is not None
        if tracer.stdout.readline() != "0\n":
            pytest.skip("nobody may trace another process here")
        yield


@pytest.fixture(autouse=True)
def nobody_loses_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the end of a process that a debugger holds waits for ever."""
    monkeypatch.setattr(zygote_client, "_END_LIMIT_S", 600.0)


def hanging(client: Any) -> tuple[int, list[int]]:
    """A call that hangs; its worker, a child of that and one in a session of its own."""
    call_id = client.submit(HANGS)
    return call_id, [int(word) for word in client.hear().split()]


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_dead_worker_that_a_debugger_holds_costs_nobody_else(tmp_path: Path) -> None:
    with pool_client(warm=1, size=2) as client:
        zygote = client.pool._capacity.zygote
        beside = client.start(f"import os, time\nwhile not os.path.exists({str(tmp_path / 'end')!r}): time.sleep(0.01)")
        call_id, (worker, *family) = hanging(client)
        with debugger(worker):
            os.kill(worker, signal.SIGKILL)
            event = client.end(call_id)
            assert isinstance(event, CallLost)
            assert "exit status is unknown" in event.description
            assert all(map(gone, family))
            assert client.run("out = b'a new worker'") == b"a new worker"
            assert exists(worker)
        eventually(lambda: not exists(worker))
        (tmp_path / "end").touch()
        assert isinstance(client.end(beside), CallEnded)
        assert client.pool._capacity.zygote is zygote


def test_u17_a_daemon_that_a_debugger_holds_is_not_waited_for() -> None:
    with pool_client(warm=1) as client:
        zygote = client.pool._capacity.zygote
        call_id, (worker, child, daemon) = hanging(client)
        with debugger(child, daemon):
            os.kill(worker, signal.SIGKILL)
            event = client.end(call_id)
            assert isinstance(event, CallLost)
            assert event.signal == signal.SIGKILL
            assert client.run("out = b'goes on'") == b"goes on"
            assert client.pool._capacity.zygote is zygote
        eventually(lambda: not any(map(exists, (child, daemon))))


def test_a_pool_is_closed_while_a_debugger_holds_its_dead() -> None:
    with pool_client(warm=1) as client:
        _, family = hanging(client)
        zygote = client.pool._capacity.zygote
        with debugger(*family):
            client.lease.close()
            client.pool.close()
            assert not exists(zygote.pid)
            assert all(map(gone, (zygote.server_pid, *family)))


def test_o7_a_dead_fork_server_that_a_debugger_holds_is_replaced() -> None:
    with pool_client(warm=1) as client:
        call_id, family = hanging(client)
        zygote = client.pool._capacity.zygote
        with debugger(zygote.server_pid):
            os.kill(zygote.server_pid, signal.SIGKILL)
            assert isinstance(client.end(call_id), CallLost)
            assert all(map(gone, family))
            assert client.run("out = b'goes on'") == b"goes on"
            assert not exists(zygote.pid)


def test_a_process_whose_first_thread_has_ended_is_not_taken_for_dead() -> None:
    """Nor for one that a debugger holds: it may have gigabytes to free yet, and only then its children are ours."""
    source = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    with subprocess.Popen([sys.executable, "-c", source]) as child:
        eventually(lambda: kinship.read_state(child.pid) == b"Z")
        assert not kinship.is_dead(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert kinship.is_dead(child.pid)
