"""Enums and the standard library's other kinds of class, defined in a script: there and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

IDIOMS = {
    "enum": r"""
import enum
class E(enum.Enum):
    A = 1
    B = 2
    AA = 1
    def hi(self):
        return self.name
    @classmethod
    def get(cls):
        return cls.B
def make():
    return E.B
def check(x):
    return x is E.B and E.AA is E.A and x.hi() == "B" and E.get() is x and E(2) is x
""",
    "enum_init": r"""
import enum
class P(enum.Enum):
    EARTH = (1.0, 2.0)
    MARS = (3.0, 4.0)
    def __init__(self, m, r):
        self.m = m
        self.r = r
    @property
    def ratio(self):
        return self.m / self.r
def make():
    return P.MARS
def check(x):
    return x is P.MARS and x.m == 3.0 and x.ratio == 0.75 and P((1.0, 2.0)) is P.EARTH
""",
    "enum_new": r"""
import enum
class P(bytes, enum.Enum):
    def __new__(cls, value, label):
        o = bytes.__new__(cls, [value])
        o._value_ = value
        o.label = label
        return o
    A = (1, "one")
    B = (2, "two")
def make():
    return P.B
def check(x):
    return x is P.B and x.label == "two" and x.value == 2 and x == b"\x02"
""",
    "enum_str_label": r"""
import enum
class P(str, enum.Enum):
    def __new__(cls, value, label):
        o = str.__new__(cls, value)
        o._value_ = value
        o.label = label
        return o
    A = ("a", "one")
    B = ("b", "two")
    C = ("b", "alias")
class Q(enum.Enum):
    def __new__(cls):
        o = object.__new__(cls)
        o._value_ = len(cls.__members__) + 1
        return o
    A = ()
    B = ()
def make():
    return P.B, Q.B
def check(x):
    return (
        x[0] is P.B
        and x[0].label == "two"
        and x[0] == "b"
        and P["C"] is P.B
        and P("b") is P.B
        and x[1] is Q.B
        and Q(2) is Q.B
    )
""",
    "enum_auto_str": r"""
import enum
class S(enum.StrEnum):
    RED = enum.auto()
    BLUE = enum.auto()
class Low(str, enum.Enum):
    @staticmethod
    def _generate_next_value_(name, start, count, last):
        return name.lower()
    RED = enum.auto()
def make():
    return S.BLUE, Low.RED
def check(x):
    return x[0] is S.BLUE and x[1] is Low.RED and x[0] == "blue" and x[1] == "red"
""",
    "enum_missing": r"""
import enum
class E(enum.Enum):
    A = 1
    @classmethod
    def _missing_(cls, v):
        return cls.A
    _ignore_ = ["tmp"]
    tmp = 3
def make():
    return E.A
def check(x):
    return E(99) is E.A is x
""",
    "enum_flag_boundary": r"""
import enum
class F(enum.Flag, boundary=enum.KEEP):
    A = 1
    B = 2
    AB = 3
class G(enum.IntFlag):
    A = enum.auto()
    B = enum.auto()
def make():
    return F.A | F.B, F(8), G.A | G.B
def check(x):
    return x[0] is F.AB and x[1].value == 8 and F(8) is x[1] and x[2] == 3 and F.A in x[0] and ~F.A == F.B
""",
    "enum_unique_nonmember": r"""
import enum
@enum.unique
class E(enum.Enum):
    A = 1
    fn = enum.nonmember(5)
    @enum.member
    def go():
        return 1
def make():
    return E.A
def check(x):
    return x is E.A and E.fn == 5 and len(E) == 2
""",
    "enum_unhashable": r"""
import enum
class E(enum.Enum):
    A = [1]
    B = {}
def make():
    return E.B
def check(x):
    return x is E.B and E([1]) is E.A
""",
    "enum_dataclass": r"""
import enum, dataclasses
@dataclasses.dataclass
class Mixin:
    a: int
    b: str = "x"
class E(Mixin, enum.Enum):
    ONE = 1
    TWO = 2, "y"
def make():
    return E.TWO
def check(x):
    return x is E.TWO and x.a == 2 and x.b == "y"
""",
    "enum_frozen_dataclass": r"""
import enum, dataclasses
@dataclasses.dataclass(frozen=True)
class Mixin:
    a: int
    b: str = "x"
class E(Mixin, enum.Enum):
    ONE = 1
    TWO = 2, "y"
def make():
    return E.TWO
def check(x):
    return x is E.TWO and x.a == 2 and x.b == "y"
""",
    "abc_register": r"""
import abc
class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...
class Plain:
    def area(self):
        return 1
Shape.register(Plain)
class Real(Shape):
    def area(self):
        return 2
def make():
    return Plain()
def check(x):
    try:
        Shape()
    except TypeError:
        pass
    else:
        return False
    return (
        isinstance(x, Shape)
        and Real().area() == 2
        and not isinstance(1, Shape)
        and Shape.__abstractmethods__ == {"area"}
    )
""",
    "dataclass_slots_frozen": r"""
import dataclasses
@dataclasses.dataclass(slots=True, frozen=True, kw_only=True)
class D:
    a: int
    b: list = dataclasses.field(default_factory=list)
@dataclasses.dataclass(slots=True, weakref_slot=True)
class W:
    a: int = 3
def make():
    return D(a=1), W()
def check(x):
    return (
        x == (D(a=1), W())
        and not hasattr(x[0], "__dict__")
        and dataclasses.replace(x[0], a=2).a == 2
        and W().a == 3
    )
""",
    "dataclass_super": r"""
import dataclasses
@dataclasses.dataclass
class A:
    a: int
    def __post_init__(self):
        self.total = self.a
@dataclasses.dataclass
class D(A):
    b: dataclasses.InitVar[int] = 2
    c: int = dataclasses.field(init=False, default=0)
    _: dataclasses.KW_ONLY = None
    k: int = 1
    def __post_init__(self, b):
        super().__post_init__()
        self.total += b
def make():
    return D(1, k=9)
def check(x):
    return (
        x == D(1, k=9)
        and x.total == 3
        and D.__match_args__ == ("a", "b")
        and [f.name for f in dataclasses.fields(x)] == ["a", "c", "k"]
    )
""",
    "namedtuple": r"""
import typing, collections
class N(typing.NamedTuple):
    a: int
    b: str = "x"
    def both(self):
        return self.a, self.b
class G(typing.NamedTuple, typing.Generic[typing.TypeVar("T")]):
    a: int = 1
class Sub(collections.namedtuple("Sub", "x y")):
    __slots__ = ()
    def s(self):
        return self.x + self.y
def make():
    return N(1), G(), Sub(1, 2)
def check(x):
    return (
        x[0].both() == (1, "x")
        and x[0] == N(1)
        and [type(v) for v in x] == [N, G, Sub]
        and x[2].s() == 3
        and x[2]._replace(x=5).x == 5
        and N._field_defaults == {"b": "x"}
    )
""",
    "typed_dict": r"""
import typing
class T(typing.TypedDict, total=False):
    a: int
class U(T):
    b: str
def make():
    return U(a=1, b="x")
def check(x):
    return (
        x == {"a": 1, "b": "x"}
        and U.__required_keys__ == {"b"}
        and U.__optional_keys__ == {"a"}
        and U.__total__ is True
        and T.__total__ is False
        and typing.is_typeddict(U)
        and set(typing.get_type_hints(U)) == {"a", "b"}
    )
""",
    "protocol": r"""
import typing
@typing.runtime_checkable
class P(typing.Protocol):
    def go(self) -> int: ...
class Data(typing.Protocol):
    x: int
class Impl:
    def go(self):
        return 1
class Explicit(P):
    def go(self):
        return 2
def make():
    return Impl()
def check(x):
    try:
        P()
    except TypeError:
        pass
    else:
        return False
    return isinstance(x, P) and not isinstance(1, P) and isinstance(Explicit(), P)
""",
    "generic_protocol": r"""
import typing
T = typing.TypeVar("T", covariant=True)
@typing.runtime_checkable
class P(typing.Protocol[T]):
    def go(self) -> T: ...
class A(P[int]):
    def go(self):
        return 1
def make():
    return A()
def check(x):
    return isinstance(x, P) and x.go() == 1 and P[int] is not None
""",
    "generic": r"""
import typing
T = typing.TypeVar("T")
U = typing.TypeVar("U")
class Box(typing.Generic[T]):
    def __init__(self, c):
        self.c = c
class Pair(Box[T], typing.Generic[T, U]):
    pass
class IntBox(Box[int]):
    pass
def make():
    return Pair[int, str](1), IntBox(2)
def check(x):
    return (
        isinstance(x[0], Box)
        and type(x[1]) is IntBox
        and Pair.__parameters__ == (T, U)
        and Box.__parameters__ == (T,)
        and typing.get_args(IntBox.__orig_bases__[0]) == (int,)
    )
""",
    "meta_call_singleton": r"""
class Singleton(type):
    _made = {}
    def __call__(cls, *a, **k):
        if cls not in cls._made:
            cls._made[cls] = super().__call__(*a, **k)
        return cls._made[cls]
class S(metaclass=Singleton):
    def __init__(self):
        self.n = 1
def make():
    return S()
def check(x):
    return type(x) is S and x.n == 1 and S() is S()
""",
}


@pytest.mark.parametrize("idiom", IDIOMS)
def test_round_trip(round_trip: Callable[[str], None], idiom: str) -> None:
    round_trip(IDIOMS[idiom])
