"""The path to a bad object, as a user would write it down."""

from __future__ import annotations

import collections
import dataclasses
import functools
import threading
import time
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from dremioframe.orchestration.payload import codec
from dremioframe.orchestration.payload.codec import EncodeError
from dremioframe.orchestration.payload.diagnosis import cut, describe, guarded_text, path_to

LOCK = threading.Lock()


class Slots:
    __slots__ = ("a", "b")

    def __init__(self, b: object) -> None:
        self.b = b


class Single:
    __slots__ = "only"  # noqa: PLC0205 - legal, and a trap for those who iterate over it

    def __init__(self, only: object) -> None:
        self.only = only


class Row(NamedTuple):
    a: int
    lock: object


@dataclasses.dataclass
class Data:
    rows: list[Any]


class Method:
    def __init__(self) -> None:
        self.lock = LOCK

    def run(self) -> None: ...


class Made:
    """Pickles through an object that only exists while it is pickled."""

    def __reduce__(self) -> Any:
        return Data, ([threading.Lock()],)


class Hostile:
    def __init__(self) -> None:
        self.lock = LOCK

    def __getattribute__(self, name: str) -> Any:
        if name == "__dict__":
            raise ValueError("mine")
        return super().__getattribute__(name)


def closure() -> Any:
    lock = threading.Lock()

    def inner() -> object:
        return lock

    return inner


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (LOCK, ""),
        ([LOCK], "[0]"),
        ({"a": {5: (1, LOCK)}}, "['a'][5][1]"),
        ({("k", 1): LOCK}, "[('k', 1)]"),
        ({"x" * 200: LOCK}, "['" + "x" * 79 + "...]"),
        ({LOCK: 1}, "<key 0>"),
        ({LOCK}, "<member 0>"),
        (Data([1, 2, Data([LOCK])]), ".rows[2].rows[0]"),
        (Slots(LOCK), ".b"),
        (Single(LOCK), ".only"),
        ([Row(1, LOCK)], "[0].lock"),
        (collections.deque([1, LOCK]), "[1]"),
        (collections.defaultdict(list, a=[LOCK]), "['a'][0]"),
        (collections.OrderedDict(a=LOCK), "['a']"),
        (functools.partial(print, LOCK, end=""), ".args[0]"),
        (functools.partial(print, end=LOCK), ".keywords['end']"),
        (Method().run, ".__self__.lock"),
        (ValueError("x", LOCK), ".args[1]"),
        ([np.array([1, LOCK], dtype=object)], "[0][1]"),
        ([1, Made()], "[1]"),
        ([1, Hostile()], "[1]"),
        (pd.DataFrame({"a": [1, LOCK]}), "._mgr"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_path(value: object, path: str) -> None:
    with pytest.raises(EncodeError) as caught:
        codec.encode(value)
    assert caught.value.path.startswith(path) if path == "._mgr" else caught.value.path == path


def test_path_into_the_closure_of_code_made_in_a_worker(worker: Any) -> None:
    with pytest.raises(Exception, match=r"at result\['f'\]<closure lock>"):
        worker(lambda: {"f": closure()})


def test_a_cycle_does_not_hold_the_search() -> None:
    value: list[Any] = []
    value += [value, {"back": value}, LOCK]
    with pytest.raises(EncodeError) as caught:
        codec.encode(value)
    assert caught.value.path == "[2]"


def test_a_path_too_long_to_help_is_cut_in_the_middle() -> None:
    value: Any = LOCK
    for n in range(100):
        value = [value] if n % 2 else {"k": value}
    with pytest.raises(EncodeError) as caught:
        codec.encode(value)
    assert caught.value.path.startswith("[0]['k'][0]")
    assert caught.value.path.endswith("['k'][0]['k']")
    assert "..." in caught.value.path
    assert len(caught.value.path) < 300


def test_a_large_value_takes_seconds_and_no_minutes() -> None:
    started = time.monotonic()
    with pytest.raises(EncodeError) as caught:
        codec.encode({"rows": [{"n": n} for n in range(100_000)] + [LOCK]})
    assert caught.value.path == "['rows'][100000]"
    assert time.monotonic() - started < 20


def test_a_search_that_finds_nothing_says_nothing() -> None:
    assert path_to([1, [2]], [object()]) == ""
    assert path_to([], []) == ""


def test_texts_of_hostile_objects() -> None:
    class Mute:
        def __str__(self) -> str:
            raise SystemExit

    class MuteError(Exception):
        __str__ = Mute.__str__

    assert "text cannot be had: SystemExit" in guarded_text(Mute())
    assert describe(MuteError()).startswith("test_texts_of_hostile_objects.<locals>.MuteError: <")
    assert describe(KeyError()) == "KeyError"
    assert len(describe(ValueError("x" * 10_000))) < 2100


def test_long_texts_keep_both_ends() -> None:
    assert cut("x" * 65_536) == "x" * 65_536
    text = cut("<" + "x" * 1_000_000 + ">")
    assert text.startswith("<x")
    assert text.endswith("x>")
    assert len(text) < 65_536
