"""Functions with state: every value that one is in has its own copy of it, as of any other object.

What a function holds (variables of its closure, its defaults, its attributes) may be changed by whoever has it. As one
object per token it would be shared by all tasks of a worker, and each would see the others' writes. So the token only
names code and globals, which go to a worker once; what the function holds follows in the value::

    | twin(token) | what its closure, defaults and attributes hold |

What lives here: which functions have state, and their pickled form. What may not: functions without state, which are
one object per token (:mod:`.tokens`), and functions made in a worker, which go by value (:mod:`.by_value`).
"""

from __future__ import annotations

from types import BuiltinFunctionType, CellType, FunctionType, ModuleType

from . import importable, tokens
from .identity import ByIdentity
from .namespaces import PLAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    #: Attributes, defaults, defaults of keywords, and of each variable of the closure the value, if it has one.
    State = tuple[dict[str, Any], tuple[Any, ...] | None, dict[str, Any] | None, list[tuple[Any, ...]]]

_BARE = b"\xff" * tokens.TOKEN_BYTES
#: Of a twin: the token it was made from.
_tokens = ByIdentity()


class Bare:
    """Stands for a function without what it holds."""

    def __init__(self, function: FunctionType) -> None:
        self.function = function


def bare(token: bytes) -> bytes:
    """The token of a function without what it holds, from that of the function; and back."""
    return tokens.combined(token, _BARE)


def has_state(function: FunctionType) -> bool:
    """Whether it holds, itself or through functions, what whoever has it can change.

    A variable of a closure can, whatever its value (``nonlocal``), unless it is a function or class: those are defined
    once, as a rule. A constant among the defaults cannot.
    """
    waiting, seen = [function], {id(function)}
    for one in waiting:
        if one.__dict__.keys() - {"__wrapped__"}:
            return True
        for value, may_be_plain in _held_by(one):
            if type(value) is FunctionType:
                if id(value) not in seen and importable.named(value) is None:
                    seen.add(id(value))
                    waiting.append(value)
            elif not (_is_code(value) or (may_be_plain and _is_constant(value))):
                return True
    return False


def _held_by(function: FunctionType) -> Iterator[tuple[object, bool]]:
    for content in contents(function):
        yield content[0] if content else CellType(), False
    for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield value, True
    if "__wrapped__" in function.__dict__:
        yield function.__dict__["__wrapped__"], False


def _is_code(value: object) -> bool:
    if type(value) is BuiltinFunctionType:
        return isinstance(value.__self__, ModuleType | None)  # else it is a method of some object
    return issubclass(type(value), type | ModuleType)


def _is_constant(value: object) -> bool:
    if type(value) is tuple or type(value) is frozenset:
        return all(map(_is_constant, value))
    return type(value) in PLAIN or _is_code(value) or _is_sentinel(value)


def _is_sentinel(value: object) -> bool:
    """Whether it holds nothing: then it is compared by identity with a global, and has to stay with the code."""
    return not getattr(value, "__dict__", None) and all(
        kind.__flags__ & importable.HEAP_TYPE_FLAG and not kind.__dict__.get("__slots__")
        for kind in type(value).__mro__[:-1]
    )


def contents(function: FunctionType) -> list[tuple[Any, ...]]:
    """The values of its closure's variables; nothing for one without a value yet."""
    found: list[tuple[Any, ...]] = []
    for cell in function.__closure__ or ():
        try:
            found.append((cell.cell_contents,))
        except ValueError:
            found.append(())
    return found


def reduce(function: FunctionType, token: bytes) -> tuple[Any, ...]:
    """A function with state as a pickler's reduced form."""
    state = function.__dict__, function.__defaults__, function.__kwdefaults__, contents(function)
    return twin, (token,), state, None, None, set_state


def token_from_above(function: FunctionType) -> bytes | None:
    """The token under which the process above knows the code of this function, if it does."""
    token: bytes | None = _tokens.get(function)
    return token or tokens.token_from_above(function)


# --- called by pickles ------------------------------------------------------------------------------------------------


def twin(token: bytes) -> FunctionType:
    """A function with the code and the globals of the one that the token names. It holds nothing yet."""
    original = tokens.up_to_date(token) or tokens.resolve(bare(token))
    cells = tuple(CellType() for _ in original.__code__.co_freevars)
    made = FunctionType(original.__code__, original.__globals__, original.__name__, None, cells)
    for name in ("__annotations__", "__doc__", "__module__", "__qualname__", "__type_params__"):
        if hasattr(original, name):  # type parameters came with Python 3.12
            setattr(made, name, getattr(original, name))
    _tokens.put(made, token)
    return made


def set_state(made: FunctionType, state: State) -> None:
    """State setter of a :func:`twin`."""
    attributes, made.__defaults__, made.__kwdefaults__, values = state
    made.__dict__.update(attributes)
    for cell, content in zip(made.__closure__ or (), values, strict=True):
        if content:
            (cell.cell_contents,) = content
