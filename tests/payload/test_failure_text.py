"""Failures as text and as bytes: their tracebacks, odd characters, damage."""

from __future__ import annotations

import pickle
import random
import struct
import traceback
from typing import Any

import pytest

from dremioframe.orchestration.errors import (
    MemoryLimitExceededError,
    OrchestrationError,
    TaskTimeoutError,
    WorkerLostError,
)
from dremioframe.orchestration.payload import traceback_text
from dremioframe.orchestration.payload.codec import DecodeError
from dremioframe.orchestration.payload.failure import Failure


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


# --- traceback --------------------------------------------------------------------------------------------------------


def test_traceback_starts_at_user_code() -> None:
    namespace: dict[str, Any] = {"__name__": "dremioframe.orchestration.attempt"}
    exec("def call(action):\n    return action()\n", namespace)

    def user_code() -> None:
        namespace["call"](deeper)

    def deeper() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x") as raising:
        namespace["call"](user_code)
    raising.value.__traceback__ = raising.tb.tb_next  # this test's own frame; a worker has none there
    text = Failure.capture(raising.value).traceback_text
    places = [line.rpartition(" in ")[2] for line in text.splitlines() if line.startswith("  File")]
    assert places == ["user_code", "call", "deeper"]  # only the start is cut

    with pytest.raises(TypeError) as calling:
        namespace["call"](None)
    calling.value.__traceback__ = calling.tb.tb_next
    assert Failure.capture(calling.value).traceback_text == "TypeError: 'NoneType' object is not callable\n"


def test_deep_recursion_is_told_briefly() -> None:
    def forever() -> None:
        forever()

    try:
        forever()
    except RecursionError as error:
        failure = Failure.capture(error)
    assert len(failure.traceback_text) < 5000
    assert "repeated" in failure.traceback_text
    assert type(failure.to_error("t", 1).__cause__) is RecursionError


# --- bytes ------------------------------------------------------------------------------------------------------------


def test_text_of_any_kind_survives() -> None:
    odd = "\ud800\0\U0001f600\n"
    failure = Failure.from_bytes(Failure.payload(odd, odd, odd, note=odd).to_bytes())
    assert (failure.stage, failure.path, failure.message, failure.note) == (odd, odd, odd, odd)


def test_damaged_bytes_are_a_decode_error_and_never_anything_else() -> None:
    chance = random.Random(7)
    data = Failure.capture(raised(ValueError("x"))).to_bytes()
    for _ in range(3000):
        damaged = bytearray(data)
        start = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                damaged[start] ^= 1 << chance.randrange(8)
            case 1:
                del damaged[start:]
            case 2:
                damaged[start : start + 8] = struct.pack("<Q", chance.choice([0, 1, 2**63, 2**64 - 1]))
            case 3:
                damaged += b"x"
        try:
            failure = Failure.from_bytes(bytes(damaged))
        except DecodeError:
            continue
        assert isinstance(failure.to_error("t", 1), OrchestrationError)
    for data in (b"", bytes(64), b"\xff" * 100):
        with pytest.raises(DecodeError):
            Failure.from_bytes(memoryview(data)[:63])


def printed(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_a_printed_error_shows_the_frames_of_another_process_once() -> None:
    failure = Failure.from_bytes(Failure.capture(raised(ValueError("x")), note="by the way").to_bytes())
    for reread in (failure, pickle.loads(pickle.dumps(failure))):
        error = reread.to_error("t", 1)
        for each in (error, pickle.loads(pickle.dumps(error)), reread.to_error("t", 1)):
            assert printed(each).count("in raised") == 1
            assert printed(each).count("by the way") == 1


def test_frames_that_are_printed_anyway_and_those_that_never_were_are_no_note() -> None:
    assert printed(Failure.local(raised(ValueError("x"))).to_error("t", 1)).count("in raised") == 1
    assert not hasattr(Failure.capture(ValueError("never raised")).to_error("t", 1), "__notes__")


@pytest.mark.parametrize("kind", [TaskTimeoutError, MemoryLimitExceededError, WorkerLostError])
def test_a_printed_error_of_the_engine_shows_the_stack_without_the_engine(kind: Any) -> None:
    engine = f'  File "{traceback_text.__file__}", line 3 in wait'
    own = kind("ended", stack=f'Thread 0x1:\n{engine}\n  File "mine.py", line 7 in mine\n')
    for failure in (Failure.own(own), Failure.from_bytes(Failure.own(own).to_bytes())):
        for _ in range(2):
            error = failure.to_error("t", 1)
            for each in (error, pickle.loads(pickle.dumps(error))):
                assert printed(each).count("in mine") == 1
                assert "in wait" not in printed(each)
                assert "in wait" in each.stack
