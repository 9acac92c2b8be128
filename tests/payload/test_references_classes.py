"""Classes of a script with attributes whose names mean something to Python: there and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

IDIOMS = {
    "class_property": r"""
class Proxy:
    def __init__(self, wrapped):
        self._wrapped = wrapped
    __class__ = property(lambda self: type(self._wrapped))
    def __reduce_ex__(self, p):
        return Proxy, (self._wrapped,)
    def size(self):
        return len(self._wrapped)
def make():
    return Proxy([1, 2])
def check(x):
    return isinstance(x, list) and x.size() == 2 and type(x) is Proxy
""",
    "class_property_self": r"""
class Proxy:
    __class__ = property(lambda self: Other if isinstance(Proxy, type) else None)
    def __reduce_ex__(self, p):
        return Proxy, ()
class Other:
    twin = Proxy
def make():
    return Proxy()
def check(x):
    return isinstance(x, Other) and type(x) is Proxy and Other.twin is Proxy
""",
    "name_property": r"""
class Named:
    __name__ = property(lambda self: "instance name")
def make():
    return Named()
def check(x):
    return type(x) is Named and x.__name__ == "instance name" and Named.__name__ == "Named"
""",
    "nested_qualname": r"""
class Outer:
    class Inner:
        pass
def make():
    return Outer.Inner()
def check(x):
    return type(x) is Outer.Inner and Outer.Inner.__qualname__ == "Outer.Inner"
""",
    "module_property": r"""
class M:
    __module__ = property(lambda self: "elsewhere")
def make():
    return M()
def check(x):
    return type(x) is M and x.__module__ == "elsewhere"
""",
    "doc_property": r"""
class D:
    __doc__ = property(lambda self: "of instance")
def make():
    return D()
def check(x):
    return type(x) is D and x.__doc__ == "of instance"
""",
    "dict_property": r"""
class D:
    __slots__ = ("_d",)
    def __init__(self):
        self._d = {"a": 1}
    __dict__ = property(lambda self: self._d)
    def __reduce__(self):
        return D, ()
def make():
    return D()
def check(x):
    return x.__dict__ == {"a": 1} and vars(x) == {"a": 1}
""",
    "bases_attr": r"""
class B:
    __bases__ = property(lambda self: ("x",))
def make():
    return B()
def check(x):
    return type(x) is B and x.__bases__ == ("x",) and B.__bases__ == (object,)
""",
    "mro_attr": r"""
class B:
    __mro__ = property(lambda self: ("x",))
    def mro(self):
        return 3
def make():
    return B()
def check(x):
    return x.__mro__ == ("x",) and x.mro() == 3 and B.__mro__ == (B, object)
""",
    "text_signature_flags": r"""
class T:
    __text_signature__ = "(x)"
    __flags__ = property(lambda self: 9)
    __basicsize__ = property(lambda self: 9)
    __subclasses__ = lambda self: 9
def make():
    return T()
def check(x):
    return (
        x.__flags__ == 9
        and x.__basicsize__ == 9
        and x.__subclasses__() == 9
        and x.__text_signature__ == "(x)"
    )
""",
    "abstractmethods_property": r"""
class T:
    __abstractmethods__ = property(lambda self: "mine")
def make():
    return T()
def check(x):
    return x.__abstractmethods__ == "mine"
""",
    "annotations_property": r"""
class T:
    __annotations__ = property(lambda self: "mine")
def make():
    return T()
def check(x):
    return x.__annotations__ == "mine"
""",
    "slots_private": r"""
class S:
    __slots__ = ("__a", "b")
    def __init__(self):
        self.__a = 1
        self.b = 2
    def get(self):
        return self.__a
def make():
    return S()
def check(x):
    return x.get() == 1 and x.b == 2 and not hasattr(x, "__dict__")
""",
    "slots_dict": r"""
class S:
    __slots__ = {"a": "doc of a"}
    def __init__(self):
        self.a = 1
def make():
    return S()
def check(x):
    return x.a == 1 and not hasattr(x, "__dict__")
""",
    "slots_with_dict": r"""
class S:
    __slots__ = ("a", "__dict__", "__weakref__")
    def __init__(self):
        self.a = 1
        self.other = 2
def make():
    return S()
def check(x):
    return x.a == 1 and x.other == 2
""",
    "set_name": r"""
class Field:
    def __set_name__(self, owner, name):
        self.name = name
        self.owner = owner
    def __get__(self, obj, owner=None):
        return self if obj is None else obj.__dict__.get(self.name, "unset")
    def __set__(self, obj, value):
        obj.__dict__[self.name] = value
class Model:
    a = Field()
def make():
    m = Model()
    m.a = 4
    return m
def check(x):
    return x.a == 4 and Model.a.name == "a" and Model.a.owner is Model and type(x) is Model
""",
    "super_cell": r"""
class A:
    def v(self):
        return 1
class B(A):
    def v(self):
        return super().v() + 1
    def c(self):
        return __class__
    @classmethod
    def k(cls):
        return super().__init_subclass__ is not None
    @staticmethod
    def s():
        return __class__
    p = property(lambda self: __class__)
def make():
    return B()
def check(x):
    return x.v() == 2 and x.c() is B and B.k() and B.s() is B and x.p is B
""",
}


@pytest.mark.parametrize("idiom", IDIOMS)
def test_round_trip(round_trip: Callable[[str], None], idiom: str) -> None:
    round_trip(IDIOMS[idiom])
