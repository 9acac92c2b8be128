"""Code of a script's `__main__`, between two real processes. The scripts have no `__main__` guard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    RunScript = Callable[..., str]


def test_p15_function_class_and_instance(run_script: RunScript) -> None:
    run_script("""
        class Row:
            seen = 0
            config = {"a": 1}

            def __init__(self, x):
                self.x = x

            def double(self):
                return Row(self.x * 2)

        def work(row):
            Row.seen += 5
            Row.config["a"] = 99
            assert type(row) is Row
            return row.double()

        config = Row.config
        with Worker() as worker:
            for i in range(3):
                result = worker(work, Row(4))
                assert type(result) is Row and isinstance(result, Row) and result.x == 8
            assert Row.seen == 0 and Row.config is config and config == {"a": 1}
            assert worker(lambda: Row) is Row
    """)


def test_mutual_references_and_recursion(run_script: RunScript) -> None:
    run_script("""
        class A:
            def other(self):
                return B()

        class B:
            def other(self):
                return A()

        def even(n):
            return n == 0 or odd(n - 1)

        def odd(n):
            return n != 0 and even(n - 1)

        def factorial(n):
            return 1 if n < 2 else n * factorial(n - 1)

        with Worker() as worker:
            assert type(worker(lambda: A().other())) is B
            assert type(worker(A.other, A())) is B
            assert type(worker(lambda a: a.other().other(), A())) is A
            assert worker(even, 10) is True and worker(odd, 10) is False
            assert worker(factorial, 10) == 3628800
            assert worker(lambda f: f is factorial and f(5), factorial) == 120
            assert worker(lambda: factorial) is factorial
    """)


def test_lambdas_closures_partials_methods_and_callables(run_script: RunScript) -> None:
    run_script("""
        import functools

        class Adder:
            def __init__(self, n):
                self.n = n
            def __call__(self, x):
                return x + self.n
            def method(self, x):
                return x + self.n
            def __private(self, x):
                return x - self.n
            def private(self):
                return self.__private
            @classmethod
            def build(cls, n):
                return cls(n)
            @staticmethod
            def static(x):
                return x * 2

        def outer(n):
            total = []
            def inner(x):
                total.append(x)
                return sum(total) + n
            return inner

        def add(a, b, *, c=0):
            return a + b + c

        @functools.lru_cache(maxsize=7)
        def cached(n):
            return n if n < 2 else cached(n - 1) + cached(n - 2)

        with Worker() as worker:
            assert worker(lambda x, y=2: x * y, 4) == 8
            assert worker(outer(10), 1) == 11
            assert worker(functools.partial(add, 1, c=3), 2) == 6
            assert worker(functools.partial(functools.partial(add, 1), c=3), 2) == 6
            assert worker(Adder(3), 4) == 7
            assert worker(Adder(3).method, 4) == 7
            assert worker(Adder(3).private(), 4) == 1
            assert worker(Adder.static, 4) == 8
            built = worker(Adder.build, 4)
            assert type(built) is Adder and built.n == 4
            assert worker(lambda f: f(1), Adder(3).method) == 4
            assert worker(lambda f: f(1), functools.partial(add, 1)) == 2
            assert worker(cached, 30) == 832040
            assert worker(lambda f: (f(20), f.cache_parameters()["maxsize"]), cached) == (6765, 7)
            assert cached.cache_info().currsize == 0
    """)


def test_globals_are_shared_by_the_functions_of_a_script_and_stay_untouched_at_home(run_script: RunScript) -> None:
    run_script("""
        counter = 0
        words = ["a"]

        def bump():
            global counter
            counter += 1
            words.append("b")

        class Holder:
            def read(self):
                return counter

        def bump_and_read():
            bump()
            return counter, Holder().read(), Holder

        def read_only(holder):
            bump()
            return counter, holder.read(), len(words)

        with Worker() as worker:
            first = worker(bump_and_read)
            assert first == (1, 1, Holder)
            # another blob, loaded later: same globals, nothing reset, nobody left behind with older ones
            second = worker(read_only, Holder())
            assert second == (2, 2, 3), second
            assert counter == 0 and words == ["a"]
            counter = 100
            worker.begin_run()
            assert worker(read_only, Holder())[0] == 101
            assert counter == 100
    """)


def test_dataclasses_enums_namedtuples(run_script: RunScript) -> None:
    run_script("""
        import dataclasses, enum, typing, collections

        @dataclasses.dataclass
        class Base:
            a: int
            b: list = dataclasses.field(default_factory=list)

        @dataclasses.dataclass(frozen=True, slots=True, order=True)
        class Frozen:
            a: int = 1

        class Colour(enum.Enum):
            RED = 1
            BLUE = 2

            @property
            def nice(self):
                return self is Colour.BLUE

        class Flags(enum.IntFlag):
            R = 1
            W = 2

        class Row(typing.NamedTuple):
            a: int
            b: str = "x"

        Old = collections.namedtuple("Old", "x y")

        def work(base, frozen, colour, flags, row, old):
            assert type(base) is Base and frozen == Frozen(1) and colour is Colour.RED
            assert flags == Flags.R | Flags.W and colour.nice is False

            @dataclasses.dataclass
            class Derived(Base):
                c: int = 5

            assert [f.name for f in dataclasses.fields(Derived)] == ["a", "b", "c"]
            assert dataclasses.fields(Base)[0].default is dataclasses.MISSING
            return (dataclasses.replace(base, a=2), dataclasses.replace(frozen, a=7), Colour.BLUE, Flags.W,
                    row._replace(a=3), old._replace(x=4))

        with Worker() as worker:
            result = worker(work, Base(1), Frozen(1), Colour.RED, Flags.R | Flags.W, Row(1), Old(1, 2))
            assert result == (Base(2), Frozen(7), Colour.BLUE, Flags.W, Row(3), Old(4, 2))
            assert [type(x) for x in result] == [Base, Frozen, Colour, Flags, Row, Old]
            assert result[2] is Colour.BLUE and {Colour.BLUE: 1}[result[2]] == 1
            assert list(Colour) == [Colour.RED, Colour.BLUE]
    """)


def test_metaclass_slots_super_abc_generic(run_script: RunScript) -> None:
    run_script("""
        import abc, typing

        class Meta(type):
            registry = []
            def __new__(meta, name, bases, ns, **kw):
                cls = super().__new__(meta, name, bases, ns)
                cls.tag = name.lower()
                return cls
            def __call__(cls, *args):
                made = super().__call__(*args)
                made.by_meta = True
                return made

        class Base(metaclass=Meta):
            def __init__(self, x):
                self.x = x
            def value(self):
                return self.x

        class Derived(Base):
            def value(self):
                return super().value() * 10

        class Slotted:
            __slots__ = ("a", "b", "__weakref__")
            def __init__(self, a):
                self.a = a

        class Child(Slotted):
            __slots__ = ("c",)

        class Shape(abc.ABC):
            @abc.abstractmethod
            def area(self): ...

        class Square(Shape):
            def __init__(self, n):
                self.n = n
            def area(self):
                return self.n ** 2

        T = typing.TypeVar("T")
        class Box(typing.Generic[T]):
            def __init__(self, content):
                self.content = content

        def work(derived, slotted, square):
            assert derived.value() == 10 and derived.tag == "derived" and derived.by_meta
            assert isinstance(square, Shape) and square.area() == 4
            try:
                Shape()
            except TypeError:
                pass
            else:
                raise AssertionError
            child = Child(slotted.a)
            child.c = 3
            return Derived(2), child, Square(3), Box[int](5)

        slotted = Slotted(1)
        with Worker() as worker:
            derived, child, square, box = worker(work, Derived(1), slotted, Square(2))
            assert type(derived) is Derived and derived.value() == 20
            assert type(child) is Child and (child.a, child.c) == (1, 3) and not hasattr(child, "b")
            assert isinstance(square, Shape) and square.area() == 9
            assert type(box) is Box and box.content == 5
            assert worker(lambda t: t is T, T) in (True, False)   # arrives at all
    """)


def test_exceptions_of_main(run_script: RunScript) -> None:
    run_script("""
        from dremioframe.orchestration.errors import TaskError

        class MyError(ValueError):
            def __init__(self, code, text):
                super().__init__(f"{code}: {text}")
                self.code = code

        def fail():
            try:
                raise KeyError("inner")
            except KeyError as inner:
                raise MyError(404, "gone") from inner

        with Worker() as worker:
            try:
                worker(fail)
            except TaskError as error:
                cause = error.__cause__
                assert type(cause) is MyError and cause.code == 404 and str(cause) == "404: gone"
                assert type(cause.__cause__) is KeyError
                assert 'raise MyError(404, "gone")' in error.traceback_text
            else:
                raise AssertionError
            assert type(worker(lambda: MyError(1, "x"))) is MyError   # as a value
    """)


@pytest.mark.parametrize("sink", ["bound", "closure", "global"])
def test_loguru_logger_with_a_file_sink(run_script: RunScript, sink: str) -> None:
    out = run_script(f"""
        from loguru import logger
        logger.remove()
        logger.add("mine.log", enqueue=False)
        bound = logger.bind(user="ann").opt(lazy=False)

        def by_global():
            logger.info("hello")
            return "ok"

        def by_closure():
            log = bound
            def inner():
                log.info("hello")
                return log._options[-1]["user"]
            return inner

        def by_value(log):
            log.info("hello")
            return log._options[-1]["user"]

        with Worker() as worker:
            if "{sink}" == "global":
                print(worker(by_global))
            elif "{sink}" == "closure":
                print(worker(by_closure()))
            else:
                print(worker(by_value, bound))
            assert type(worker(lambda: logger)) is type(logger)
    """)
    assert out.strip() == ("ok" if sink == "global" else "ann")


def test_logging_loggers(run_script: RunScript) -> None:
    run_script("""
        import logging
        log = logging.getLogger("shop")
        log.addHandler(logging.FileHandler("shop.log"))
        loose = logging.Logger("loose")
        adapter = logging.LoggerAdapter(log, {"a": 1})

        def work(given):
            log.warning("x")
            loose.warning("x")
            adapter.warning("x")
            logging.getLogger().warning("x")
            return given.name, log, loose.name

        with Worker() as worker:
            assert worker(work, log) == ("shop", log, "loose")
            assert worker(work, logging.getLogger())[0] == "root"
    """)
