"""Who does not let itself be ended as usual: another user's process, and a fork server that nobody has heard of."""

from __future__ import annotations

import select
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

sys.path.append(str(Path(__file__).parent))

from race_parts import eventually, gone, pool_client

from dremioframe.orchestration.pool import termination, zygote_client
from dremioframe.orchestration.pool.events import CallLost
from dremioframe.orchestration.pool.process_pool import PoolOptions, ProcessPool

if TYPE_CHECKING:
    import pytest


def test_a_child_that_became_another_users_harms_neither_the_pool_nor_its_end(
    arm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``sudo`` does: nobody here may send it a signal. It is left alone, and everything else goes on."""
    monkeypatch.setattr(zygote_client, "_END_LIMIT_S", 600.0)  # whoever waits for that child waits for ever
    arm(**{"kinship.kill_child": "fail:EPERM"})
    with pool_client(warm=1) as client:
        event = client.end(
            client.submit("""
            import os, subprocess
            child = subprocess.Popen(["sleep", "600"], start_new_session=True)
            ports.request(str(child.pid).encode())
            os._exit(1)
        """)
        )
        assert isinstance(event, CallLost)
        zygote = client.pool._capacity.zygote
        for _ in range(3):  # each death has all children looked at again
            assert isinstance(client.end(client.submit("import os; os._exit(1)")), CallLost)
        assert client.run("out = b'goes on'") == b"goes on"
        assert client.pool._capacity.zygote is zygote
    foreign = psutil.Process(int(client.heard[0]))
    assert gone(zygote.pid)
    assert foreign.is_running()
    foreign.kill()
    assert gone(foreign.pid)


def test_r20_closed_when_a_stopped_fork_server_has_just_got_ready_and_nobody_has_heard_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its sentry would die, and it would not: it lives on without its parent."""
    monkeypatch.setattr(zygote_client, "_END_LIMIT_S", 0.3)
    pool = ProcessPool(PoolOptions(size=1, runner="pool_runner:make_runner"))
    pool.start()
    zygote = pool._capacity.zygote
    assert select.select([zygote.control_fd], [], [], 60)[0]
    [server] = psutil.Process(zygote.pid).children()
    server.send_signal(signal.SIGSTOP)
    eventually(lambda: server.status() == psutil.STATUS_STOPPED)
    pool.close()
    assert gone(zygote.pid)
    assert gone(server.pid)


def test_o7_a_sentry_that_was_stopped_is_continued_and_cleans_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It alone can find what the tasks of a killed fork server have left in sessions of their own."""
    monkeypatch.setattr(zygote_client, "_END_LIMIT_S", 60.0)
    with pool_client(warm=1) as client:
        zygote = client.pool._capacity.zygote
        child = int(
            client.run("""
            import subprocess
            hidden = subprocess.Popen(["sleep", "600"], start_new_session=True)
            out = str(hidden.pid).encode()
        """)
        )
        sentry = psutil.Process(zygote.pid)
        sentry.send_signal(signal.SIGSTOP)
        eventually(lambda: sentry.status() == psutil.STATUS_STOPPED)
        [worker] = client.workers
        psutil.Process(zygote.server_pid).kill()
        assert gone(worker.pid)  # else it may be the one that answers, and then nobody has heard of the end
        assert client.run("out = b'goes on'") == b"goes on"
        assert gone(child)


def test_o20_with_the_sentry_killed_an_end_is_told_when_the_fork_server_has_cleaned_up(
    arm: Any, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an orphan then, and still at work; what was lost with it must not be tried again beside what is left."""
    arm(**{"kinship.end_children": f"{gate.action}@1"})
    reaped, ended = threading.Event(), []
    reap = zygote_client.ZygoteClient._reap

    def watched(self: zygote_client.ZygoteClient) -> str:
        ended.append(termination.has_ended(self._server_pidfd))
        reaped.set()
        return reap(self)

    def let_it_clean_up() -> None:
        gate.wait()
        reaped.wait(0.5)  # what is not waited for is reaped at once; nothing tells that somebody waits
        gate.open()

    with pool_client(warm=1) as client:
        zygote = client.pool._capacity.zygote
        call_id = client.start("import time; time.sleep(600)")
        helper = threading.Thread(target=let_it_clean_up, daemon=True)
        helper.start()
        monkeypatch.setattr(zygote_client.ZygoteClient, "_reap", watched)
        psutil.Process(zygote.pid).kill()
        event = client.end(call_id)
        assert isinstance(event, CallLost)
        assert ended == [True]
        helper.join()
        monkeypatch.undo()
