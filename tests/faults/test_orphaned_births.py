"""Processes whose parent is killed before they have asked the kernel to die with it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

sys.path.append(str(Path(__file__).parent))

from race_parts import gone, pool_client

from dremioframe.orchestration.payload import references

if TYPE_CHECKING:
    import pytest

#: They end at once. If not, the watchdog of `make test-the-tests` must not come first: it would leave them.
SOON_S = 10.0


def dies(pid: int) -> bool:
    process = psutil.Process(pid)
    if not (soon := gone(pid, SOON_S)):
        process.kill()
    return soon


def test_o7_o20_a_worker_whose_guards_are_killed_while_it_is_being_born(arm: Any, gate: Any, tmp_path: Path) -> None:
    """Nobody knows its number yet, and a hanging initializer would keep it from noticing that its channel has ended."""
    others = str(tmp_path / "others")

    def initializer() -> None:
        import os
        import time

        if not os.path.exists(others):
            time.sleep(600)

    arm(**{"birth.begin": f"{gate.action}!{tmp_path / 'once'}"})
    with pool_client(warm=0, initializer=references.pack_code(initializer)) as client:
        call_id = client.submit("out = b'done'")
        newborn = gate.wait()
        zygote = client.pool._capacity.zygote
        client.until(lambda: zygote.server_pid)
        os.kill(zygote.server_pid, signal.SIGSTOP)  # or it would see its sentry die, and kill its children
        os.kill(zygote.pid, signal.SIGKILL)
        os.kill(zygote.server_pid, signal.SIGKILL)
        assert gone(zygote.server_pid)
        gate.open()
        assert dies(newborn)
        Path(others).touch()
        assert bytes(client.end(call_id).payload) == b"done"


def test_o7_o20_a_fork_server_whose_sentry_is_killed_while_it_is_being_born(
    arm: Any, gate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it imports a module that hangs it looks after its coordinator only."""
    (tmp_path / "hangs_once.py").write_text(
        f"import os, time\nif not os.path.exists({str(tmp_path / 'others')!r}): time.sleep(600)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arm(**{"sentry.newborn": f"{gate.action}!{tmp_path / 'once'}"})
    with pool_client(warm=0, preload=("hangs_once",)) as client:
        call_id = client.submit("out = b'done'")
        newborn = gate.wait()
        sentry = client.pool._capacity.zygote.pid
        os.kill(sentry, signal.SIGKILL)
        assert gone(sentry)
        gate.open()
        assert dies(newborn)
        (tmp_path / "others").touch()
        assert bytes(client.end(call_id).payload) == b"done"
