"""A latch: heard by everybody, whatever an exception does to one who waits."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from dremioframe.orchestration.engine.latch import Latch

if TYPE_CHECKING:
    from types import FrameType

PATIENCE_S = 30.0


class HandlerError(Exception):
    """What a signal handler raises."""


def raised_in(latch: Latch, at: int, timeout: float) -> bool:
    """Wait on a latch and raise before the instruction of that number, wherever it stands; False if it has fewer."""
    passed = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal passed
        frame.f_trace_opcodes = True
        if event == "opcode":
            passed += 1
            if passed > at:
                sys.settrace(None)
                raise HandlerError
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks at this once, in settrace()
    sys.settrace(trace)
    try:
        latch.wait(timeout)
    except HandlerError:
        return True
    finally:
        sys.settrace(before)
    return False


def in_thread(function: Any) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("timeout", [0.0, 1e-6])
def test_an_exception_at_any_step_of_one_who_waits_concerns_nobody_else(timeout: float) -> None:
    at = 0
    latch = Latch()
    while raised_in(latch, at, timeout):
        other = in_thread(latch.wait)
        in_thread(latch.set).join(PATIENCE_S)
        assert latch.is_set, f"set() got stuck after an exception at step {at}"
        other.join(PATIENCE_S)
        assert not other.is_alive(), f"a wait got stuck after an exception at step {at}"
        assert latch.wait()
        latch, at = Latch(), at + 1
    assert at > 10


def test_all_who_wait_hear_it() -> None:
    latch = Latch()
    others = [in_thread(latch.wait) for _ in range(8)]
    assert not latch.wait(0)
    assert not latch.wait(-1)
    latch.set()
    for other in others:
        other.join(PATIENCE_S)
        assert not other.is_alive()
    assert latch.wait()
    assert latch.wait(0)


def test_waits_without_success_leave_nothing() -> None:
    latch = Latch()
    for _ in range(100):
        latch.wait(0)
    assert not latch._waiting
