"""The failpoints themselves: what a point does, when, and in which process."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from dremioframe.orchestration import failpoints

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_is_armed_in_normal_use() -> None:
    assert not failpoints.armed
    assert not failpoints.hit("any.point")


def test_off_means_that_a_protection_is_skipped(arm: Any) -> None:
    arm(**{"a.point": "off"})
    assert failpoints.armed
    assert failpoints.hit("a.point")
    assert not failpoints.hit("another.point")


@pytest.mark.parametrize(
    ("when", "hits"), [("", [1, 1, 1, 1]), ("@1", [1, 0, 0, 0]), ("@3", [0, 0, 1, 0]), ("@2+", [0, 1, 1, 1])]
)
def test_the_nth_time(arm: Any, when: str, hits: list[int]) -> None:
    arm(**{"a.point": f"off{when}"})
    assert [int(failpoints.hit("a.point")) for _ in range(4)] == hits


def test_once_in_all_processes(arm: Any, tmp_path: Path) -> None:
    action = f"off!{tmp_path / 'claimed'}"
    arm(**{"a.point": action})
    code = "from dremioframe.orchestration import failpoints; print(failpoints.hit('a.point'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout == "True\n"
    assert not failpoints.hit("a.point")


def test_an_error_by_name(arm: Any) -> None:
    arm(**{"a.point": "fail:ENOSPC@2"})
    failpoints.hit("a.point")
    with pytest.raises(OSError, match=r"failpoint a\.point") as caught:
        failpoints.hit("a.point")
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("heard", [False, True])
def test_a_pause_ends_when_nobody_comes(gate: Any, heard: bool) -> None:
    """Whoever armed it may have been killed, and the process that waits may have blocked all signals."""
    code = f"""
from dremioframe.orchestration import failpoints
failpoints._PAUSE_LIMIT_S = {60 if heard else 0}
failpoints.load("a.point={gate.action}")
class Poll:
    register = lambda self, *args: None
    poll = lambda self, limit: []
if {heard}: __import__("select").poll = Poll
failpoints.hit("a.point")
"""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        if heard:
            assert gate.wait() == process.pid
        assert process.wait(60) == 1


@pytest.mark.parametrize(("action", "code"), [("kill", -9), ("exit:7", 7)])
def test_the_process_ends(arm: Any, action: str, code: int) -> None:
    arm(**{"a.point": action})
    script = "from dremioframe.orchestration import failpoints; failpoints.hit('a.point')"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == code


def test_a_process_waits_at_a_gate(arm: Any, gate: Any) -> None:
    arm(**{"a.point": gate.action})
    passed = threading.Event()
    thread = threading.Thread(target=lambda: (failpoints.hit("a.point"), passed.set()))
    thread.start()
    assert gate.wait() == os.getpid()
    assert not passed.is_set()
    gate.open()
    thread.join()
    assert passed.is_set()


@pytest.mark.parametrize("text", ["a.point", "=off", "a.point=", "a.point=explode", "a.point=off@x"])
def test_what_is_no_failpoint_is_refused(text: str) -> None:
    try:
        with pytest.raises(ValueError):
            failpoints.load(text)
    finally:
        failpoints.load("")
