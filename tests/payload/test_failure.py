"""Failures: exceptions of user code as data, whatever they are made of."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import pickle
import threading
import time
from typing import Any

import pytest

from dremioframe.orchestration.errors import (
    NestedRunError,
    OrchestrationError,
    PayloadError,
    RemoteError,
    TaskError,
    TaskTimeoutError,
    WorkerLostError,
)
from dremioframe.orchestration.payload.failure import Failure


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        if cause is None:
            raise error
        raise error from cause
    except BaseException as caught:
        return caught


def travelled(error: BaseException, **options: Any) -> Failure:
    return Failure.from_bytes(Failure.capture(raised(error), **options).to_bytes())


def delivered(error: BaseException) -> TaskError:
    result = travelled(error).to_error("load", 2)
    assert type(result) is TaskError
    assert (result.task, result.attempt) == ("load", 2)
    return result


# --- what arrives -----------------------------------------------------------------------------------------------------


def test_u1_type_args_notes_and_traceback() -> None:
    error = ValueError("bad", 5)
    error.add_note("look at row 7")
    result = delivered(error)
    cause = result.__cause__
    assert type(cause) is ValueError
    assert cause.args == ("bad", 5)
    assert cause.__notes__ == ["look at row 7"]
    assert result.error_type == "ValueError"
    assert str(result) == "task 'load', attempt 2: ValueError: ('bad', 5)"
    assert "raise error" in result.traceback_text
    assert result.traceback_text.endswith("ValueError: ('bad', 5)\nlook at row 7\n")


def test_u1_each_reader_gets_an_exception_of_its_own() -> None:
    failure = travelled(KeyError("x"))
    one, two = failure.to_error("t", 1), failure.to_error("t", 1)
    assert one is not two
    assert one.__cause__ is not two.__cause__
    lost = Failure.own(WorkerLostError("gone"))
    assert lost.to_error("t", 1) is not lost.to_error("t", 1)


class Unpicklable(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def test_u2_unpicklable_exception_becomes_a_stand_in() -> None:
    result = delivered(Unpicklable("still said"))
    cause = result.__cause__
    assert type(cause) is RemoteError
    assert cause.error_type.endswith("test_failure.Unpicklable")
    assert str(cause).endswith("Unpicklable: still said")
    assert cause.traceback_text == result.traceback_text != ""


class ExtraArguments(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class ExtraKeyword(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__()
        self.code = code


class OptionalArguments(Exception):
    def __init__(self, code: int = 0, text: str = "") -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


def test_u3_exceptions_that_pickle_cannot_rebuild_arrive_whole() -> None:
    for error in (ExtraArguments(404, "gone"), ExtraKeyword(code=404), OptionalArguments(404, "gone")):
        cause = delivered(error).__cause__
        assert type(cause) is type(error)
        assert cause.code == 404
        assert str(cause) == str(error)
        assert cause.args == error.args


class RefusesToCome(Exception):
    def __reduce__(self) -> Any:
        return int, ("no number",)


class ComesAsAnother(Exception):
    def __reduce__(self) -> Any:
        return KeyError, self.args


class OwnOSError(OSError):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def test_u3_what_does_not_survive_is_found_out_where_it_was_raised() -> None:
    for error in (RefusesToCome("x"), ComesAsAnother("x"), OwnOSError(5, "x")):
        failure = Failure.capture(raised(error))
        assert failure._pickled == b""
        assert type(failure.to_error("t", 1).__cause__) is RemoteError


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int
    text: str = "x"


@dataclasses.dataclass
class Plain(Exception):
    code: int


def test_u4_dataclass_exceptions() -> None:
    cause = delivered(Frozen(5)).__cause__
    assert cause == Frozen(5)
    result = travelled(raised(Frozen(5), KeyError("why"))).to_error("t", 1)
    assert type(result.__cause__) is Frozen
    assert repr(result.__cause__.__cause__) == "KeyError('why')"
    assert delivered(Plain(7)).__cause__ == Plain(7)


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("never")

    __repr__ = __str__


class Exiting(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


def test_u5_an_exception_that_cannot_be_shown() -> None:
    for kind in (Mute, Exiting):
        result = delivered(kind("x"))
        assert type(result.__cause__) is kind
        assert kind.__name__ in result.traceback_text
        assert "text cannot be had" in str(result)


def test_u5_a_huge_message_is_cut() -> None:
    error = ValueError("<" + "x" * 100_000_000 + ">")
    failure = Failure.capture(raised(error))
    assert len(failure.message) < 70_000
    assert len(failure.traceback_text) < 70_000
    assert failure.message.startswith("<x")
    assert failure.message.endswith("x>")
    assert "characters left out" in failure.message
    assert len(failure.to_bytes()) < 200_000
    assert type(failure.to_error("t", 1).__cause__) is RemoteError


def test_u5_cycles_and_long_chains_of_causes() -> None:
    one, two = ValueError("one"), KeyError("two")
    one.__cause__, two.__cause__ = two, one
    cause = delivered(one).__cause__
    assert cause is not None
    assert cause.__cause__ is not None
    assert cause.__cause__.__cause__ is cause
    chain: BaseException | None = None
    for n in range(3000):
        link = ValueError(n)
        link.__cause__ = chain
        chain = link
    assert chain is not None
    started = time.monotonic()
    result = delivered(chain)
    assert time.monotonic() - started < 5
    assert len(result.traceback_text) < 70_000
    assert repr(result.__cause__) == "ValueError(2999)"
    while chain is not None:  # or the interpreter recurses over it when it goes
        link, chain = chain, chain.__cause__
        link.__cause__ = None


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(5), asyncio.CancelledError("x"), MemoryError()],
    ids=repr,
)
def test_u6_u7_u8_base_exceptions_are_data(error: BaseException) -> None:
    result = delivered(error)
    assert isinstance(result, Exception)
    assert type(result.__cause__) is type(error)
    assert (
        result.error_type
        == ("" if type(error).__module__ == "builtins" else "asyncio.exceptions.") + type(error).__name__
    )


def test_causes_contexts_and_their_absence_survive() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second") from OSError(2, "third")
    except ValueError as caught:
        cause = delivered(caught).__cause__
    assert cause is not None
    assert repr(cause.__context__) == "KeyError('first')"
    assert repr(cause.__cause__) == "FileNotFoundError(2, 'third')"
    assert cause.__suppress_context__
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second") from None
    except ValueError as caught:
        cause = delivered(caught).__cause__
    assert cause is not None
    assert cause.__cause__ is None
    assert cause.__suppress_context__


def test_an_unpicklable_cause_costs_only_itself() -> None:
    result = travelled(raised(ValueError("main"), Unpicklable("inner"))).to_error("t", 1)
    cause = result.__cause__
    assert type(cause) is ValueError
    assert type(cause.__cause__) is RemoteError
    assert str(cause.__cause__).endswith("Unpicklable: inner")


def test_exception_groups() -> None:
    cause = delivered(ExceptionGroup("both", [ValueError(1), KeyError(2)])).__cause__
    assert isinstance(cause, ExceptionGroup)
    assert [type(part) for part in cause.exceptions] == [ValueError, KeyError]


def test_exceptions_with_fields_of_their_own() -> None:
    errors = [
        FileNotFoundError(2, "gone", "/x"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ImportError("x", name="m"), SyntaxError("bad", ("f.py", 1, 2, "text")), KeyError(("a", 1)),
        RecursionError("deep"),
    ]  # fmt: skip
    for error in errors:
        cause = delivered(error).__cause__
        assert type(cause) is type(error)
        assert str(cause) == str(error)


def test_exception_with_an_array_and_with_too_much_data() -> None:
    import numpy as np

    assert delivered(ValueError(np.arange(1000))).__cause__.args[0][-1] == 999  # type: ignore[union-attr]
    assert type(delivered(ValueError("x", np.zeros(5_000_000))).__cause__) is RemoteError


def test_local_exception_class_of_a_worker_and_of_home() -> None:
    class Local(Exception):
        pass

    assert type(delivered(Local("x")).__cause__) is Local


# --- the engine's own -------------------------------------------------------------------------------------------------


def test_payload_errors_name_task_stage_path_and_a_way_out() -> None:
    failure = Failure.from_bytes(Failure.payload("result_pickle", "result['a'].lock", "TypeError: no").to_bytes())
    assert failure.message == "TypeError: no"
    error = failure.to_error("load", 1)
    assert isinstance(error, PayloadError)
    assert (error.task, error.attempt, error.stage, error.path) == ("load", 1, "result_pickle", "result['a'].lock")
    assert str(error) == (
        "task 'load', attempt 1: its result cannot be sent back: TypeError: no at result['a'].lock; "
        "pass what the object can be made from, or use executor='thread'"
    )


@pytest.mark.parametrize("make", [Failure.local, Failure.capture])
def test_a_payload_error_met_by_user_code_is_delivered_as_itself(make: Any) -> None:
    met = PayloadError("ImportError: gone", stage="context_unpickle", path="extract")
    error = make(raised(met)).to_error("load", 3)
    assert isinstance(error, PayloadError)
    assert (error.task, error.stage, error.path) == ("load", "context_unpickle", "extract")
    assert "a value of its context cannot be loaded: ImportError: gone" in str(error)
    again = make(raised(error)).to_error("other", 1)
    assert str(again) == str(error)
    assert again.task == "load"


@pytest.mark.parametrize("make", [Failure.local, Failure.capture])
def test_misuse_is_delivered_as_itself(make: Any) -> None:
    error = make(raised(NestedRunError("use .fn"))).to_error("t", 1)
    assert type(error) is NestedRunError
    assert (error.task, error.attempt, str(error)) == ("t", 1, "use .fn")


@pytest.mark.parametrize("own", [TaskTimeoutError("late", timeout_s=5.0, stack="here"), WorkerLostError("lost", pid=7)])
def test_own_errors_keep_their_attributes(own: OrchestrationError) -> None:
    for failure in (Failure.own(own), Failure.from_bytes(Failure.own(own).to_bytes())):
        error = failure.to_error("t", 2)
        assert type(error) is type(own)
        assert vars(error) == {**vars(own), "task": "t", "attempt": 2}


def test_notes_are_added_once() -> None:
    for failure in (Failure.local(ValueError("x"), note="by the way"), travelled(ValueError("x"), note="by the way")):
        for _ in range(2):
            assert failure.to_error("t", 1).__notes__.count("by the way") == 1


def test_a_local_failure_keeps_the_exception_itself() -> None:
    error = Unpicklable("x")
    failure = Failure.local(raised(error))
    assert failure.to_error("t", 1).__cause__ is error
    assert "Unpicklable: x" in failure.traceback_text


def test_capture_lets_go_of_the_frames() -> None:
    class Big:
        pass

    def user_code() -> None:
        big = Big()  # noqa: F841
        raise ValueError("x")

    try:
        user_code()
    except ValueError as error:
        failure = Failure.capture(error)
    gc.collect()
    assert not [o for o in gc.get_objects() if type(o) is Big]
    assert failure.error_type == "ValueError"


def test_failures_pickle() -> None:
    failure = pickle.loads(pickle.dumps(Failure.local(raised(KeyError("x")))))
    assert repr(failure.to_error("t", 1).__cause__) == "KeyError('x')"
