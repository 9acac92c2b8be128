"""What another process would import from the same file: the code that travels by name.

What lives here: the decision, and the look-up on the other side. What may not: everything about code that has to travel
by value.

``__main__`` never qualifies (the script is not run again in a worker), nor does a module that was loaded by hand from a
file that no entry of ``sys.path`` leads to, nor one that a file of the same name earlier on the path would shadow.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

#: A longer chain of ``__wrapped__`` is no decorated function but an object that invents attributes.
_UNWRAP_LIMIT = 32
#: Set in ``__flags__`` of a class made by a ``class`` statement, clear in one compiled into the interpreter.
HEAP_TYPE_FLAG = 1 << 9
_MAIN_MODULES = frozenset({"__main__", "__mp_main__"})

_verdicts: dict[str, tuple[object, bool]] = {}
_search_path: list[str] = []
_directory: str | None = None


def is_importable(name: str) -> bool:
    """Whether a worker that imports ``name`` executes the file that this process executed."""
    if name == "builtins":
        return True
    _forget_verdicts_of_another_path()
    module = sys.modules.get(name)
    known = _verdicts.get(name)
    if known is None or known[0] is not module:
        known = _verdicts[name] = (module, _is_found_again(name, module))
    return known[1]


def _forget_verdicts_of_another_path() -> None:
    """Workers get the path and the directory as they are when a run starts; both may have changed since the last."""
    global _search_path, _directory
    directory = _current_directory() if "" in sys.path or "." in sys.path else None
    if sys.path != _search_path or directory != _directory:
        _search_path, _directory = list(sys.path), directory
        _verdicts.clear()


def _current_directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _is_found_again(name: str, module: Any) -> bool:
    spec = getattr(module, "__spec__", None)
    if spec is None or name in _MAIN_MODULES:
        return False
    package = name.rpartition(".")[0]
    if package and not is_importable(package):
        return False
    found = _find_spec(name, getattr(sys.modules[package], "__path__", None) if package else None)
    if found is None:
        return False
    return found.origin == spec.origin or _same_file(found.origin, spec.origin)


def _find_spec(name: str, path: Any) -> ModuleSpec | None:
    # importlib.util.find_spec would answer from sys.modules, which is the very thing in question.
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path)
        except Exception:  # noqa: BLE001 - a finder that fails finds nothing in the worker either
            spec = None
        if spec is not None:
            return spec
    return None


def _same_file(one: str | None, other: str | None) -> bool:
    return bool(one and other) and os.path.realpath(one or "") == os.path.realpath(other or "")


def loaded_module(name: object) -> ModuleType | None:
    """The module of that name, if it is loaded."""
    return sys.modules.get(name) if isinstance(name, str) else None


def named(code: Any) -> tuple[str, str, int] | None:
    """How another process finds this class or function: module, qualified name, how often to unwrap what is there.

    A decorated function is found under its decorator's product, through its ``__wrapped__`` chain. None if there is no
    way: then it has to travel by value.
    """
    module, name = getattr(code, "__module__", None), getattr(code, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or not is_importable(module):
        return None
    found = _look_up(sys.modules[module], name)
    for hops in range(_UNWRAP_LIMIT):
        if found is code:
            return module, name, hops
        if found is None:
            return None
        found = _wrapped(found)
    return None


def _look_up(module: Any, name: str) -> Any:
    try:
        for part in name.split("."):
            module = getattr(module, part)
    except Exception:  # noqa: BLE001 - "<locals>", a deleted name, a module's own __getattr__
        return None
    return module


def _wrapped(decorated: Any) -> Any:
    try:
        return decorated.__wrapped__
    except Exception:  # noqa: BLE001 - not decorated
        return None


def find(module: str, name: str, hops: int) -> Any:
    """The class or function that :func:`named` described, imported here."""
    __import__(module)
    found = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    for _ in range(hops):
        found = found.__wrapped__
    return found
