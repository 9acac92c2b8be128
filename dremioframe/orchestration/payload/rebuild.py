"""How a function that came by value is made again, without cloudpickle.

Every worker that is given a function of the user's script makes it by these few lines. Cloudpickle's own would have to
be found in cloudpickle, and importing that takes 30 ms: in each worker, before its first task.

What lives here: what the pickles of ``by_value`` name. What may not: classes by value, whose making does need
cloudpickle.
"""

from __future__ import annotations

import builtins
from importlib import import_module
from types import CellType, CodeType, FunctionType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def module(name: str) -> ModuleType:
    """A module that code by value refers to."""
    return import_module(name)


def code_type() -> type[CodeType]:
    """The type itself: it has no name in any module but ``types``."""
    return CodeType


def cell(*content: object) -> CellType:
    """A variable that a closure and its outer function share; empty if no content is given."""
    return CellType(*content)


def function(
    code: CodeType,
    namespace: dict[str, Any],
    name: str | None,
    defaults: tuple[object, ...] | None,
    closure: tuple[CellType, ...] | None,
) -> FunctionType:
    """A function without its state, for that may refer to it."""
    namespace["__builtins__"] = vars(builtins)
    return FunctionType(code, namespace, name, defaults, closure)


def set_function_state(made: FunctionType, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Give it what it was pickled with: attributes, globals, and the content of its closure."""
    attributes, slots = state
    vars(made).update(attributes)
    made.__globals__.update(slots.pop("__globals__"))
    made.__globals__["__builtins__"] = vars(builtins)
    cells = slots.pop("__closure__") or ()  # a function without what it holds has none (``twins``)
    for own, pickled in zip(made.__closure__ or (), cells, strict=False):
        try:
            own.cell_contents = pickled.cell_contents
        except ValueError:  # it is empty
            continue
    slots.pop("_cloudpickle_submodules", None)  # they were imported by being unpickled
    for name, value in slots.items():
        setattr(made, name, value)
