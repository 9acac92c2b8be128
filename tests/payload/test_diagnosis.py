"""The path to a bad object, as a user would write it down."""

from __future__ import annotations

import collections
import dataclasses
import functools
import threading
import time
import tracemalloc
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
        (np.array([[1, 2], [3, LOCK]], dtype=object), "[1][1]"),
        (np.array([(1, 2), (1, LOCK)], dtype=[("n", int), ("it", object)]), "[1][1]"),
        ([np.zeros((0, 3), dtype=object), np.zeros(3), {"at": LOCK}], "[2]['at']"),
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


# --- what the search may take -----------------------------------------------------------------------------------------


class EndlessRows(list[Any]):
    """As a data set that makes up its rows while it is walked over."""

    def __init__(self, row: Any) -> None:
        super().__init__([1])
        self.row = row

    def __iter__(self) -> Any:
        while True:
            yield self.row()


@pytest.mark.parametrize("row", [int, object, LOCK.__class__, lambda: [[1]], lambda: LOCK], ids=range(5))
def test_p1_a_search_without_end_is_given_up(row: Any) -> None:
    started = time.monotonic()
    assert path_to({"rows": EndlessRows(row)}, [object()], patience_s=0.05) == ""
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "make",
    [
        lambda: [object() for _ in range(300_000)], lambda: list(range(3_000_000)),
        lambda: dict.fromkeys(range(3_000_000)), lambda: set(range(3_000_000)),
        lambda: np.array([object()] * 1_000_000), lambda: np.array([[1] * 1000] * 3000, dtype=object),
        lambda: [Slots(None) for _ in range(300_000)],
    ],
    ids=["objects", "list", "dict", "set", "array", "rows", "slots"],
)  # fmt: skip
def test_p1_a_search_takes_as_long_as_it_may_and_not_as_the_value_is_large(make: Any) -> None:
    value = make()
    started = time.thread_time()
    path_to([value, [[LOCK]]], [LOCK], patience_s=0.0)
    assert time.thread_time() - started < 0.2


def test_p1_a_long_trail_is_not_gone_through() -> None:
    trail: list[object] = [object() for _ in range(2_000_000)]
    root = [trail[0], [trail[-2]], trail[-1]]
    started = time.thread_time()
    assert path_to(root, trail) == "[2]"
    assert time.thread_time() - started < 0.5
    trail.append(object())  # made while it was pickled
    assert path_to(root, trail) == "[2]"


def test_p1_a_small_value_has_its_path_however_slow_the_machine() -> None:
    value = {"rows": [{"n": n} for n in range(100)] + [{"at": LOCK}]}
    assert path_to(value, [LOCK], patience_s=0.0) == "['rows'][100]['at']"


def test_p1_numbers_beside_a_bad_object_are_left_as_they_are() -> None:
    value = {"data": np.zeros(2_000_000), "more": [np.zeros((1000, 1000))], "last": {"at": LOCK}}
    started = time.thread_time()
    tracemalloc.start()
    try:
        assert path_to(value, [LOCK], patience_s=0.0) == "['last']['at']"
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert time.thread_time() - started < 0.5


def test_what_is_far_down_a_large_value_is_found() -> None:
    value = {"rows": [{"n": n} for n in range(100_000)] + [LOCK]}
    with pytest.raises(EncodeError) as caught:
        codec.encode(value)
    assert caught.value.path in {"['rows'][100000]", ""}
    assert path_to(value, [LOCK], patience_s=60.0) == "['rows'][100000]"
    assert path_to(value, [value["rows"][50_000], LOCK], patience_s=60.0) == "['rows'][100000]"


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
