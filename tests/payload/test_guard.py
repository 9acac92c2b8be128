"""Whose doing it is what comes out of a user's object: a real Ctrl-C passes, whatever handles it; all else is told."""

from __future__ import annotations

import functools
import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from dremioframe.orchestration.errors import RemoteError, TaskCancelled
from dremioframe.orchestration.payload import codec, exceptions, guard
from dremioframe.orchestration.payload.codec import DecodeError, EncodeError
from dremioframe.orchestration.payload.diagnosis import guarded_text
from dremioframe.orchestration.payload.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Hostile(BaseException):
    pass


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    while True:  # the handler runs between two of these
        pass


def make_up() -> None:
    raise KeyboardInterrupt


def make_up_after_cleaning() -> None:
    try:
        make_up()
    finally:
        str(5)


def make_up_again() -> None:
    try:
        make_up()
    except KeyboardInterrupt as error:
        raise error


class Acts:
    """Does something wherever it is looked at."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act

    def __reduce__(self) -> Any:
        self.act()

    def __str__(self) -> str:
        self.act()
        return ""


class ActsOnArrival:
    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act

    def __reduce__(self) -> Any:
        return _arrive, (self.act,)


def _arrive(act: Callable[[], None]) -> None:
    act()


class ErrorThatActs(Exception):
    act: Callable[[], None]

    def __str__(self) -> str:
        self.act()
        return ""


def error_that(act: Callable[[], None]) -> ErrorThatActs:
    error = ErrorThatActs()
    error.act = act
    return error


LOOKS: dict[str, Callable[[Any], object]] = {
    "encode": lambda act: codec.encode([Acts(act)]),
    "decode": lambda act: codec.decode(codec.encode(ActsOnArrival(act)).to_bytes(), private=False),
    "text": lambda act: guarded_text(Acts(act)),
    "failure": lambda act: Failure.capture(error_that(act)),
    "path": lambda act: codec.encode([{Acts(act): threading.Lock()}]),
}


def handler(number: int, frame: object) -> None:
    raise KeyboardInterrupt


class Handles:
    def method(self, number: int, frame: object) -> None:
        raise KeyboardInterrupt

    __call__ = method


HANDLERS = {
    "python's own": signal.default_int_handler,
    "function": handler,
    "method": Handles().method,
    "partial": functools.partial(Handles().method),
    "object": Handles(),
}


@pytest.fixture(params=HANDLERS)
def handled(request: pytest.FixtureRequest) -> Iterator[str]:
    previous = signal.signal(signal.SIGINT, HANDLERS[request.param])
    yield request.param
    signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize("look", LOOKS)
def test_ctrl_c_passes(handled: str, look: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        LOOKS[look](interrupt)


@pytest.mark.parametrize("act", [make_up, make_up_after_cleaning, make_up_again])
@pytest.mark.parametrize("look", LOOKS)
def test_an_interrupt_that_is_made_up_does_not(handled: str, look: str, act: Callable[[], None]) -> None:
    if handled == "object":
        return  # what a handler of an unknown kind has raised cannot be told; it is let through
    with suppress(EncodeError, DecodeError):
        LOOKS[look](act)


def test_ctrl_c_belongs_to_the_main_thread() -> None:
    texts: list[str] = []
    thread = threading.Thread(target=lambda: texts.append(guarded_text(Acts(make_up))))
    thread.start()
    thread.join()
    assert "text cannot be had: KeyboardInterrupt" in texts[0]


class Cancelled(TaskCancelled):
    pass


@pytest.mark.parametrize(
    "error", [TaskCancelled(), Cancelled(), SystemExit(), KeyboardInterrupt(), Hostile()], ids=repr
)
def test_in_a_worker_only_a_stop_passes(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    stopping: list[int] = []
    monkeypatch.setattr(guard, "_is_stopping", lambda: bool(stopping))
    assert not guard.must_pass(error)
    stopping.append(1)
    assert guard.must_pass(error)
    assert not guard.must_pass(ValueError("of a finally block"))


def test_names_of_classes_are_read_without_asking_them() -> None:
    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise SystemExit

    class Shy(metaclass=Meta):
        pass

    assert guard.class_name(Shy).endswith("<locals>.Shy")
    assert guard.module_name(Shy) == __name__
    assert guard.module_name(type("T", (), {"__module__": 5})) == ""
    assert guard.class_name(int) == "int"
    assert guard.module_name(int) == "builtins"


class Changes:
    """Comes back as something else."""


class ComesBackAsSomethingElse(Exception):
    def __reduce__(self) -> Any:
        return Changes, ()


def test_u3_what_comes_back_as_no_exception_is_a_stand_in() -> None:
    failure = Failure.capture(ComesBackAsSomethingElse("x"))
    assert type(failure.to_error("t", 1).__cause__) is RemoteError
    links = [(Changes(), None, None, False)]
    with pytest.raises(DecodeError, match="no exception"):
        exceptions.from_bytes(codec.encode(links).to_bytes())
