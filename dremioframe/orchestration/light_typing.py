"""What of ``typing`` is needed when classes are made, without its import.

That module is 10 ms of import, and a program waits for it twice before its first result: in its own process and in the
fork server of its workers. Type checkers see the real thing; modules that need any of this say::

    TYPE_CHECKING = False
    if TYPE_CHECKING:
        from typing import NamedTuple
    else:
        from .light_typing import NamedTuple

What lives here: stand-ins that behave as theirs do, as far as this package uses them: no ``super()`` in the body of a
``NamedTuple``, and a ``Protocol`` is a plain class that ``typing`` does not know for one.
"""

from __future__ import annotations

from collections import namedtuple
from types import GenericAlias

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

#: Of a class body, what ``namedtuple`` has made better.
_MADE_ANEW = frozenset({"__annotations__", "__module__", "__slots__"})


class _NamedTupleMaker(type):
    """Turns a class body with annotations into a named tuple."""

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> Any:
        if not bases:
            return super().__new__(cls, name, bases, body)
        fields = body.get("__annotations__", {})
        defaults = [body[field] for field in fields if field in body]
        made: Any = namedtuple(name, fields, defaults=defaults, module=body["__module__"])  # type: ignore[misc]  # noqa: PYI024
        made.__annotations__ = made.__new__.__annotations__ = fields
        for attribute, value in body.items():
            if attribute not in fields and attribute not in _MADE_ANEW:
                setattr(made, attribute, value)
        return made


class NamedTuple(metaclass=_NamedTupleMaker):
    """Base of classes whose annotated names are the fields of a tuple."""


class Protocol:
    """Base of classes that say what others can do."""

    __slots__ = ()


class Generic:
    """Base of classes that take type parameters; at run time they mean nothing."""

    __slots__ = ()
    __class_getitem__: Any = classmethod(GenericAlias)


def assert_never(value: object) -> NoReturn:
    """Type checkers have proved that this is not reached."""
    raise AssertionError(f"expected code to be unreachable, but got: {value!r:.100}")
