"""What the standard library puts into a script's namespace, between two real processes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    RunScript = Callable[..., str]


def test_annotations_and_what_they_name(run_script: RunScript) -> None:
    run_script("""
        import typing

        UserId = typing.NewType("UserId", int)
        T = typing.TypeVar("T")
        P = typing.ParamSpec("P")
        Ts = typing.TypeVarTuple("Ts")

        class Options(typing.TypedDict):
            a: int

        class Runs(typing.Protocol):
            def run(self) -> int: ...

        def decorate(fn: typing.Callable[P, T]) -> typing.Callable[P, T]:
            def inner(*args: P.args, **kw: P.kwargs) -> T:
                return fn(*args, **kw)
            return inner

        @decorate
        def work(x: UserId, *rest: typing.Unpack[Ts]) -> UserId:
            options: Options = {"a": 1}
            return UserId(x + options["a"])

        with Worker() as worker:
            assert worker(work, 1) == 2
            assert worker(lambda: UserId) is UserId
            assert worker(lambda t: t.__name__, T) == "T"
            assert worker(lambda: Options)(a=1) == {"a": 1}
            assert worker(lambda: Runs) is Runs
    """)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
def test_type_statements(run_script: RunScript) -> None:
    run_script("""
        type Rows = list[dict[str, int]]

        def first[T](rows: list[T]) -> T:
            return rows[0]

        def work(rows: Rows) -> int:
            return first(rows)["a"]

        with Worker() as worker:
            assert worker(work, [{"a": 5}]) == 5
    """)


@pytest.mark.parametrize("slots", ["", "__slots__ = ()"])
def test_sentinels_stay_themselves(run_script: RunScript, slots: str) -> None:
    run_script(f"""
        import enum

        class Missing:
            {slots}
            def __reduce__(self):
                return "MISSING"

        MISSING = Missing()

        class Kind(enum.Enum):
            NONE = 0

        def work(x=MISSING, y=None):
            return x is MISSING, y is MISSING, MISSING, Kind.NONE

        with Worker() as worker:
            assert worker(work) == (True, False, MISSING, Kind.NONE)
            assert worker(lambda value: value is MISSING, MISSING) is True
            assert worker(lambda value: value, [MISSING])[0] is MISSING
            worker.begin_run()
            assert worker(lambda value: (value is MISSING, value), MISSING) == (True, MISSING)
    """)


def test_functools(run_script: RunScript) -> None:
    run_script("""
        import functools

        @functools.singledispatch
        def show(x):
            return "any"

        @show.register
        def _(x: int):
            return "int"

        class Table:
            @functools.cached_property
            def size(self):
                return 7

            @functools.singledispatchmethod
            def kind(self, x):
                return "any"

            @kind.register
            def _(self, x: int):
                return "int"

            def add(self, a, b):
                return a + b

            add_one = functools.partialmethod(add, 1)

            @functools.lru_cache
            def cached(self):
                return 5

        def work(table):
            return show(1), show("x"), table.size, table.kind(1), table.kind(""), table.add_one(2), table.cached()

        @functools.wraps(work)
        def wrapped(table):
            return work(table)

        @functools.total_ordering
        class Version:
            def __init__(self, n):
                self.n = n
            def __eq__(self, other):
                return self.n == other.n
            def __lt__(self, other):
                return self.n < other.n

        @functools.cache
        def built():
            return Version(3)

        with Worker() as worker:
            expected = ("int", "any", 7, "int", "any", 3, 5)
            assert worker(work, Table()) == worker(wrapped, Table()) == expected
            assert worker(show, 1) == "int"
            assert worker(lambda v: v >= Version(1), Version(2)) is True
            assert worker(built) == Version(3)
            assert worker(functools.partial(functools.reduce, lambda a, b: a + b), [1, 2, 3]) == 6
    """)


def test_descriptors_context_managers_and_init_subclass(run_script: RunScript) -> None:
    run_script("""
        import contextlib

        class Named:
            def __set_name__(self, owner, name):
                self.name = name
            def __get__(self, obj, owner=None):
                return self.name

        class Base:
            field = Named()
            def __init_subclass__(cls, /, tag=None, **kw):
                super().__init_subclass__(**kw)
                cls.tag = tag
            @property
            def shown(self):
                return self.field
            @contextlib.contextmanager
            def opened(self):
                yield 5

        class Derived(Base, tag="x"):
            def __getattr__(self, name):
                if name.startswith("__"):
                    raise AttributeError(name)
                return name

        @contextlib.contextmanager
        def opened():
            yield 6

        def work(derived):
            with derived.opened() as five, opened() as six:
                return derived.shown, derived.tag, derived.anything, five, six, Derived()

        with Worker() as worker:
            result = worker(work, Derived())
            assert result[:-1] == ("field", "x", "anything", 5, 6) and type(result[-1]) is Derived
    """)


def test_streams_of_the_worker_are_its_own(run_script: RunScript) -> None:
    run_script("""
        import sys
        out = sys.stdout

        def work(stream):
            print("from the worker", file=out)
            return stream is sys.stderr, out is sys.stdout

        with Worker() as worker:
            assert worker(work, sys.stderr) == (True, True)
    """)
