"""Code by value: what cloudpickle does, with identity added.

What lives here: everything that needs cloudpickle, whose import takes 55 ms: this module is imported only when
something has to go by value. What may not: the choice between by name, by token and by value (:mod:`.references`).

cloudpickle reduces a class or function to *make an empty one, then set its state*. Here the first half goes through
:func:`.tokens.define` and the second through :func:`.tokens.finish`, so that code a process has already is left as it
is. cloudpickle's own class tracker would set the state again, over the attributes of the user's own class.
"""

from __future__ import annotations

import os
from types import CellType, CodeType, FunctionType, ModuleType

import cloudpickle

from . import class_by_value, importable, namespaces, rebuild, reducers, references, tokens, twins, versions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from _typeshed import SupportsWrite

    from .references import Direction, Pins
    from .tokens import Code

#: Of a module's own attributes, those the other side makes itself or cannot use.
_OWN_TO_A_PROCESS = frozenset({"__builtins__", "__cached__", "__loader__", "__spec__"})

_FILENAME = 10  # where CodeType takes it, in all supported versions of Python


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    """Pickles everything that can be pickled, code that has no name elsewhere by value.

    Attributes:
        trail: Every object it was asked to reduce, in order: the last one is what it failed at.
    """

    def __init__(
        self,
        file: SupportsWrite[bytes],
        direction: Direction,
        pins: Pins | None = None,
        buffer_callback: Callable[[Any], object] | None = None,
    ) -> None:
        super().__init__(file, 5, buffer_callback)
        self.trail: list[object] = []
        self._direction = direction
        self._pins = pins
        self._id = os.urandom(tokens.TOKEN_BYTES) if direction == references.ANYBODY else None

    def reducer_override(self, obj: Any) -> Any:
        self.trail.append(obj)
        kind = type(obj)
        if obj is CodeType:
            return rebuild.code_type, ()
        if kind is FunctionType or issubclass(kind, type):
            reduced = references.reduce(obj, self._direction, self._pins)
            if reduced is None:
                return self._by_value(obj)
        elif kind is ModuleType:
            return _reduce_module(obj, self._direction)
        elif kind is CellType:
            return _reduce_cell(obj)
        elif kind is CodeType:
            return _reduce_code(obj)
        elif kind is twins.Bare:
            return self._bare(obj.function)
        else:
            reduced = reducers.reduce(obj, kind)
            # No table has a class whose metaclass makes it unhashable.
            if reduced is NotImplemented and (type(kind).__hash__ is None or kind not in self.dispatch_table):
                return self._reduce_object(obj, kind)
        return super().reducer_override(obj) if reduced is NotImplemented else reduced

    def _reduce_object(self, obj: Any, kind: type) -> Any:
        """As pickle would, but for what says that it is a global of a module that the other side cannot import."""
        reduced = obj.__reduce_ex__(5)
        module = getattr(obj, "__module__", None)
        if not isinstance(reduced, str) or not isinstance(module, str) or importable.is_importable(module):
            return reduced
        # A sentinel or a NewType: all that counts is that it is the same object wherever it comes back to.
        token = references.by_token(obj, self._direction, self._pins)
        return token or self._defined(obj, object.__new__, (kind,), dict(getattr(obj, "__dict__", ())), set_attributes)

    def _by_value(self, code: Code) -> tuple[Any, ...]:
        make: Any
        set_state: Any
        if isinstance(code, type):
            if self._direction == references.UP:
                versions.tell_apart(code)
            make, args, set_state, state = class_by_value.reduce(code)
        else:
            _, args, state, *_ = self._dynamic_function_reduce(code)
            make, set_state = rebuild.function, rebuild.set_function_state
            args, state, set_state = _at_home(code, args, state, set_state, self._direction == references.CODE)
            if self._direction != references.CODE and twins.has_state(code):
                return make, args, state, None, None, set_state  # each value has its own
        return self._defined(code, make, args, state, set_state)

    def _bare(self, function: FunctionType) -> tuple[Any, ...]:
        """What a token of a function with state stands for: the function without that."""
        _, args, (_, slots), *_ = self._dynamic_function_reduce(function)
        slots |= {"__closure__": None, "__defaults__": None, "__kwdefaults__": None}
        args, state, set_state = _at_home(function, args, ({}, slots), rebuild.set_function_state, is_code=True)
        token = twins.bare(tokens.token_of(function))
        return tokens.define, (token, True, rebuild.function, args), (set_state, state), None, None, tokens.finish

    def _defined(self, code: Code, make: Any, args: Any, state: Any, set_state: Any) -> tuple[Any, ...]:
        token = tokens.token_of(code)
        if self._pins is not None:
            self._pins[token] = code
        if self._id is not None:
            return tokens.define_apart, (token, self._id, make, args), (set_state, state), None, None, tokens.finish
        from_above = self._direction != references.UP
        return tokens.define, (token, from_above, make, args), (set_state, state), None, None, tokens.finish


class _Call:
    """Pickles as a call: what stands for an argument that the other side has to look up."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self._reduced = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


def _at_home(function: FunctionType, args: Any, state: Any, set_state: Any, is_code: bool) -> tuple[Any, Any, Any]:
    """Give the function the globals of its module on the other side, instead of copies of those it uses.

    A closure of an importable module works on that module's real globals there: nothing is copied, a lock or a
    gigabyte among them does not matter, and it sees what functions that went by name see. Functions of one module that
    cannot be imported share one namespace in a worker. What comes from a worker, or is for anybody, has globals of its
    own: they must never reach those of the user's own module, or of another script.
    """
    code, base, *rest = args
    attributes, slots = state
    name: Any = function.__globals__.get("__name__")
    module = importable.loaded_module(name)
    if module is None or module.__dict__ is not function.__globals__:
        return args, state, set_state
    if importable.is_importable(name):
        return (
            (code, _Call(namespaces.module_globals, name), *rest),
            (attributes, {**slots, "__globals__": {}, "_cloudpickle_submodules": []}),
            set_state,
        )
    if not is_code:
        return args, state, set_state
    return (
        (code, _Call(namespaces.namespace, name, base), *rest),
        (name, set_state, state),
        namespaces.set_function_state,
    )


def _reduce_cell(cell: CellType) -> Any:
    try:
        return rebuild.cell, (cell.cell_contents,)
    except ValueError:  # it is empty
        return rebuild.cell, ()


def _reduce_code(code: CodeType) -> Any:
    """As cloudpickle does, and with its file, which releases since 3.1.3 leave out: tracebacks show its lines."""
    make, args = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return make, (*args[:_FILENAME], code.co_filename, *args[_FILENAME + 1 :])


def _reduce_module(module: ModuleType, direction: Direction) -> Any:
    if (named := reducers.module_by_name(module)) is not None:
        return named
    name = module.__name__
    content = {key: value for key, value in vars(module).items() if key not in _OWN_TO_A_PROCESS}
    if importable.loaded_module(name) is module and direction in (references.CODE, references.DOWN):
        return namespaces.module, (name,), content, None, None, namespaces.set_module_state
    # As state, not as an argument: its functions refer to the module, and only state may be recursive.
    return ModuleType, (name,), content, None, None, set_attributes


def set_attributes(thing: object, attributes: dict[str, object]) -> None:
    """State setter of a module, and of an object known by the name of a global."""
    if attributes:  # or it may be a sentinel without a place for any
        vars(thing).update(attributes)
