"""Classes of a script that metaclasses and base classes have a say in: there and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

IDIOMS = {
    "meta_setattr_raises": r"""
class Frozen(type):
    def __setattr__(cls, name, value):
        raise AttributeError(f"{cls.__name__} is frozen")
class Const(metaclass=Frozen):
    LIMIT = 5
    def value(self):
        return self.LIMIT
def make():
    return Const()
def check(x):
    return x.value() == 5 and type(x) is Const
""",
    "meta_property_same_name": r"""
class Meta(type):
    @property
    def label(cls):
        return "of class"
class C(metaclass=Meta):
    label = "of instance"
def make():
    return C()
def check(x):
    return x.label == "of instance" and C.label == "of class"
""",
    "meta_data_descriptor_settable": r"""
class Meta(type):
    log = []
    @property
    def label(cls):
        return cls._label
    @label.setter
    def label(cls, v):
        type.__setattr__(cls, "_label", v)
class C(metaclass=Meta):
    label = "of instance"
    _label = "of class"
def make():
    return C()
def check(x):
    return x.label == "of instance" and C.label == "of class"
""",
    "meta_registry_init": r"""
class Meta(type):
    registry = []
    def __init__(cls, name, bases, ns):
        super().__init__(name, bases, ns)
        Meta.registry.append(cls)
class A(metaclass=Meta):
    pass
class B(A):
    pass
def make():
    return B()
def check(x):
    return type(x) is B and Meta.registry == [A, B]
""",
    "meta_requires_attr": r"""
class Meta(type):
    def __new__(m, name, bases, ns):
        if bases and "kind" not in ns:
            raise TypeError(f"{name} must say its kind")
        return super().__new__(m, name, bases, ns)
class A(metaclass=Meta):
    pass
class B(A):
    kind = "b"
def make():
    return B()
def check(x):
    return x.kind == "b"
""",
    "meta_kwargs_new": r"""
class Meta(type):
    def __new__(m, name, bases, ns, *, table):
        cls = super().__new__(m, name, bases, ns)
        cls.table = table
        return cls
    def __init__(cls, name, bases, ns, *, table):
        super().__init__(name, bases, ns)
class A(metaclass=Meta, table="t"):
    pass
def make():
    return A()
def check(x):
    return A.table == "t" and type(x) is A
""",
    "meta_prepare_nodup": r"""
class NoDup(dict):
    def __setitem__(self, k, v):
        if k in self:
            raise TypeError("twice: " + k)
        super().__setitem__(k, v)
class Meta(type):
    @classmethod
    def __prepare__(m, name, bases, **kw):
        return NoDup()
    def __new__(m, name, bases, ns, **kw):
        return super().__new__(m, name, bases, dict(ns))
class C(metaclass=Meta):
    a = 1
def make():
    return C()
def check(x):
    return x.a == 1
""",
    "meta_unhashable": r"""
class Meta(type):
    def __eq__(cls, o):
        return cls is o
    __hash__ = None
class C(metaclass=Meta):
    a = 1
def make():
    return C()
def check(x):
    return type(x) is C and x.a == 1
""",
    "init_subclass_kwargs": r"""
class Base:
    def __init_subclass__(cls, *, table, **kw):
        super().__init_subclass__(**kw)
        cls.table = table
class A(Base, table="t"):
    pass
class B(A, table="u"):
    pass
def make():
    return B()
def check(x):
    return (A.table, B.table) == ("t", "u") and isinstance(x, A)
""",
    "init_subclass_requires_attr": r"""
class Base:
    def __init_subclass__(cls, **kw):
        super().__init_subclass__(**kw)
        if "kind" not in cls.__dict__:
            raise TypeError(f"{cls.__name__} must say its kind")
class A(Base):
    kind = 1
def make():
    return A()
def check(x):
    return A.kind == 1
""",
    "init_subclass_registry": r"""
class Base:
    registry = {}
    def __init_subclass__(cls, **kw):
        super().__init_subclass__(**kw)
        Base.registry[cls.kind] = cls
class A(Base):
    kind = "a"
def make():
    return A()
def check(x):
    return Base.registry == {"a": A}
""",
    "init_subclass_final": r"""
class Final:
    def __init_subclass__(cls, **kw):
        raise TypeError("final")
def make():
    return Final()
def check(x):
    return type(x) is Final
""",
    "init_subclass_kwargs_exception": r"""
class Base(Exception):
    def __init_subclass__(cls, *, code, **kw):
        super().__init_subclass__(**kw)
        cls.code = code
class A(Base, code=5):
    def __init__(self, n=1):
        super().__init__(n)
class Meta(type):
    def __new__(m, n, b, ns, *, flag):
        return super().__new__(m, n, b, ns)
    def __init__(c, n, b, ns, *, flag):
        c.flag = flag
class X(metaclass=Meta, flag=1):
    pass
class Y(X, flag=2):
    def m(self):
        return super().__init__ is not None and Y
def make():
    return A(), Y()
def check(x):
    return (
        type(x[0]) is A
        and A.code == 5
        and A.__mro__[1] is Base
        and (X.flag, Y.flag) == (1, 2)
        and x[1].m() is Y
    )
""",
    "init_subclass_kwargs_abc": r"""
import abc, typing
T = typing.TypeVar("T")
class Base(abc.ABC, typing.Generic[T]):
    def __init_subclass__(cls, *, code, **kw):
        super().__init_subclass__(**kw)
        cls.code = code
    @abc.abstractmethod
    def go(self): ...
class A(Base[int], code=5):
    def go(self):
        return super().go
class Half(Base[str], code=6):
    pass
def make():
    return A()
def check(x):
    try:
        Half()
    except TypeError:
        pass
    else:
        return False
    return isinstance(x, Base) and A.code == 5 and callable(x.go()) and Half.code == 6
""",
    "init_subclass_kwargs_slots": r"""
class Base:
    __slots__ = ("a",)
    def __init_subclass__(cls, *, code, **kw):
        super().__init_subclass__(**kw)
        cls.code = code
class A(Base, code=5):
    __slots__ = ("b",)
def make():
    return A()
def check(x):
    return A.code == 5 and not hasattr(x, "__dict__")
""",
    "init_subclass_multi": r"""
class Hook:
    __slots__ = ()
    def __init_subclass__(cls, *, code, **kw):
        super().__init_subclass__(**kw)
        cls.code = code
class Data:
    def __init__(self):
        self.x = 1
class A(Hook, Data, code=1):
    pass
class C(Hook, dict, code=3):
    pass
def make():
    return A(), C(a=1)
def check(x):
    return (
        x[0].x == 1
        and (A.code, C.code) == (1, 3)
        and x[1] == {"a": 1}
        and isinstance(x[0], Hook)
        and A.__bases__ == (Hook, Data)
    )
""",
    "init_subclass_on_meta_and_kw": r"""
class Meta(type):
    def __new__(m, name, bases, ns, **kw):
        return super().__new__(m, name, bases, ns, **kw)
    def __init__(cls, name, bases, ns, **kw):
        super().__init__(name, bases, ns)
class Base(metaclass=Meta):
    def __init_subclass__(cls, /, abstract=False, **kw):
        super().__init_subclass__(**kw)
        if not abstract and not getattr(cls, "url", None):
            raise ValueError(f"{cls.__name__} needs a url")
class Mid(Base, abstract=True):
    pass
class C(Mid):
    url = "u"
def make():
    return C()
def check(x):
    return x.url == "u" and isinstance(x, Base)
""",
}


@pytest.mark.parametrize("idiom", IDIOMS)
def test_round_trip(round_trip: Callable[[str], None], idiom: str) -> None:
    round_trip(IDIOMS[idiom])


def test_a_class_that_cannot_be_made_is_named(run_script: Callable[..., str]) -> None:
    run_script("""
        from dremioframe.orchestration.errors import TaskError

        class Hook:
            __slots__ = ()

            def __init_subclass__(cls, *, code):
                cls.code = code

        class First(Hook, code=1):
            pass

        class Second(First, code=2):  # to stand in for First, a class would have to be made of Hook: without a code
            pass

        with Worker() as worker:
            assert worker(lambda: First.code) == 1
            try:
                worker(lambda: Second)
            except TaskError as error:
                assert "the class __main__.Second cannot be made before its attributes are known" in str(error)
                assert "required keyword-only argument: 'code'" in str(error)
                assert "put it into a module that workers can import" in str(error)
            else:
                raise AssertionError
            assert worker(abs, -1) == 1
    """)
