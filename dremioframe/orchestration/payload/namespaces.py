"""The globals of code that came by value.

Functions of one module that cannot be imported here (a script's ``__main__``) share one dictionary, whatever blob
brought them. With one dictionary per blob (cloudpickle's way) a function of one task would not see what a function of
another has just assigned to a global, although both call each other.

What lives here: these dictionaries, and what pickles call to use them. What may not: which function is which
(:mod:`.tokens`), and what counts as set by an initializer (:mod:`.initial`).
"""

from __future__ import annotations

import sys
from _pickle import dumps  # see codec
from types import FunctionType, ModuleType, NoneType

from .tokens import loading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    #: The pickle of a plain value, and the type of any.
    Mark: TypeAlias = tuple[bytes, type]

#: What is compared by content.
PLAIN = frozenset((NoneType, bool, int, float, complex, str, bytes))


class Namespace:
    """The globals of one module.

    Attributes:
        module: The module itself, for code that names it.
        globals: The dictionary that the functions work on.
        loaded: Names that blobs of this run have brought.
        kept: Names that an initializer has set, with the mark of what the script has for them, if it has anything.
        lasting: All names that there were after the initializer: what it has left running may need them.
    """

    __slots__ = ("globals", "kept", "lasting", "loaded", "module")

    def __init__(self, name: str, base: dict[str, Any]) -> None:
        self.module = ModuleType(name)
        self.globals = self.module.__dict__
        self.globals.update(base)
        self.loaded: set[str] = set()
        self.kept: dict[str, Mark | None] = {}
        self.lasting: set[str] = set()

    def begin_run(self) -> None:
        """Forget the globals of the run before. The script may have no such names any more.

        Objects first and functions and classes then, which their destructors may call. Modules stay: they cost nothing,
        and what a task has left running needs them most of all.
        """
        self.loaded.clear()
        mine = self.globals
        names = [name for name in mine if name not in self.lasting and not _is_dunder(name)]
        names = [name for name in names if type(mine[name]) is not ModuleType]
        for name in sorted(names, key=lambda name: isinstance(mine[name], type | FunctionType)):
            mine.pop(name, None)

    def load(self, name: str, value: object) -> None:
        """A blob brings a global. It is set once a run: a later blob must not undo what tasks have assigned since."""
        if name in self.loaded:
            return
        self.loaded.add(name)
        if not stays(self.kept, name, value):
            self.globals[name] = value


_namespaces: dict[str, Namespace] = {}


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def begin_run() -> None:
    """Another run begins: its blobs bring what it needs."""
    with loading:
        for space in all_known():
            space.begin_run()


def _space(name: str, base: dict[str, Any]) -> Namespace:
    known = _namespaces.get(name)
    return known or _namespaces.setdefault(name, Namespace(name, base))


def all_known() -> list[Namespace]:
    """Every namespace there is."""
    return list(_namespaces.values())


def mark(value: object) -> Mark:
    """What can be told of a value when it comes again: a plain one's content, of others the type."""
    kind = type(value)
    return dumps(value, 5) if kind in PLAIN else b"", kind


def stays(kept: dict[str, Mark | None], name: str, value: object) -> bool:
    """Whether what an initializer has set outlasts the script's value; not if the script has changed that since."""
    if name not in kept:
        return False
    before = kept[name]
    if before is not None:
        content, kind = mark(value)
        if content != before[0] or kind is not before[1]:
            del kept[name]
            return False
    return True


# --- called by pickles ------------------------------------------------------------------------------------------------


def module_globals(name: str) -> dict[str, Any]:
    """The globals of an importable module: a closure made by its code works on them here as it did at home."""
    __import__(name)
    return sys.modules[name].__dict__


def namespace(name: str, base: dict[str, Any]) -> dict[str, Any]:
    """The globals in which the functions of a module meet that cannot be imported here."""
    return _space(name, base).globals


def module(name: str) -> ModuleType:
    """The module whose functions have these globals."""
    return _space(name, {}).module


def set_module_state(module: ModuleType, content: dict[str, object]) -> None:
    """State setter of a :func:`module`."""
    space = _namespaces[module.__name__]
    with loading:
        for key, value in content.items():
            space.load(key, value)


def set_function_state(
    function: FunctionType, state: tuple[str, Callable[..., object], tuple[Any, dict[str, Any]]]
) -> None:
    """State setter for functions that live in a :func:`namespace`."""
    name, set_state, (attributes, slots) = state
    space = _namespaces[name]
    with loading:
        for key, value in slots["__globals__"].items():
            space.load(key, value)
    set_state(function, (attributes, {**slots, "__globals__": {}}))
