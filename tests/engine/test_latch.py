"""A latch: heard by everybody, whatever an exception does to one who waits."""

from __future__ import annotations

import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from dremioframe.orchestration.engine import latch as engine_latch
from dremioframe.orchestration.engine.latch import Latch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    import pytest

PATIENCE_S = 30.0


class HandlerError(Exception):
    """What a signal handler raises."""


def at_instruction(at: int, act: Callable[[], object], wait: Callable[[], object]) -> bool:
    """Wait, and act before the latch's instruction of that number; False if there are fewer."""
    passed, acted = 0, False

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal passed, acted
        if frame.f_code.co_filename != engine_latch.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            passed += 1
            if passed > at:
                sys.settrace(None)
                acted = True
                act()
        return None if acted else trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks at this once, in settrace()
    sys.settrace(trace)
    try:
        wait()
    except HandlerError:
        pass  # raised by act()
    finally:
        sys.settrace(before)
    return acted


def raise_error() -> None:
    raise HandlerError


def in_thread(function: Any) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_an_exception_at_any_step_of_one_who_waits_concerns_nobody_else() -> None:
    at = 0
    latch = Latch()
    while at_instruction(at, raise_error, lambda: latch.wait(0)):
        other = in_thread(latch.wait)
        in_thread(latch.set).join(PATIENCE_S)
        assert latch.is_set, f"set() got stuck after an exception at step {at}"
        other.join(PATIENCE_S)
        assert not other.is_alive(), f"a wait got stuck after an exception at step {at}"
        assert latch.wait()
        latch, at = Latch(), at + 1
    assert at > 10


class UntilItBlocks:
    """A lock that raises where a thread would wait for it."""

    def __init__(self) -> None:
        self._held = False

    def acquire(self, timeout: float = -1) -> bool:
        if self._held:
            sys.settrace(None)  # what follows is no step any more
            raise HandlerError
        self._held = True
        return True


def test_it_may_be_set_at_any_step_before_a_wait_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, never_set = 0, Latch()
    with monkeypatch.context() as counting:
        counting.setattr(engine_latch.threading, "Lock", UntilItBlocks)
        while at_instruction(steps, lambda: None, never_set.wait):
            steps += 1
    assert steps > 10
    monkeypatch.setattr(engine_latch, "LOOK_UP_S", 3600.0)  # nobody looks up who was not told
    for at in range(steps):
        latch = Latch()
        waiting = in_thread(partial(at_instruction, at, latch.set, latch.wait))
        waiting.join(PATIENCE_S)
        assert not waiting.is_alive(), f"it was set at step {at}, and not heard"
        assert latch.is_set


def test_all_who_wait_hear_it() -> None:
    latch = Latch()
    others = [in_thread(latch.wait) for _ in range(8)]
    assert not latch.wait(0)
    assert not latch.wait(-1)
    while len(latch._waiting) < len(others):
        others[-1].join(0.001)  # nothing tells when a thread has come so far
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
