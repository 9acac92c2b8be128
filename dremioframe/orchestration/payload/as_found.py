"""The functions that tasks like to replace, as they were before the first task of this worker.

What runs in a worker binds its functions at import, so it does not care what a task has made of ``os.open``. Libraries
do: cloudpickle and what it imports run a good part of the standard library while they are imported, which takes 50 ms
and so happens when it is first needed, possibly after such a task. That is done with everything in its place.

What lives here: noting it, and putting it there for a while. What may not: putting it back for good, because a task may
replace what it likes for those that follow it in its worker: module globals are not put back.
"""

from __future__ import annotations

import _pickle
import os
import signal
import sys
import time

from .. import failpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_missing = object()
_found: dict[str, dict[str, Any]] = {}


def note() -> None:
    """They are as they are to be found: to be called before the first task."""
    for module in (os, signal, sys, time):
        _found[module.__name__] = dict(vars(module))
    _found["pickle"] = vars(_pickle).copy()  # where it takes them from: it may not be imported yet


class AsFound:
    """In the ``with`` block the functions are there as they were noted; as they are now if none were."""

    __slots__ = ("_replaced",)

    def __init__(self) -> None:
        self._replaced: list[tuple[dict[str, Any], str, Any]] = []

    def __enter__(self) -> None:
        if failpoints.armed and failpoints.hit("as_found.put_back"):
            return
        for name, found in _found.items():
            if name in sys.modules:
                self._put_back(vars(sys.modules[name]), found)

    def _put_back(self, namespace: dict[str, Any], found: dict[str, Any]) -> None:
        for name, function in found.items():
            now = namespace.get(name, _missing)
            if now is not function and callable(function) and not name.startswith("__"):
                self._replaced.append((namespace, name, now))
                namespace[name] = function

    def __exit__(self, *_: object) -> None:
        for namespace, name, function in self._replaced:
            if function is _missing:
                del namespace[name]
            else:
                namespace[name] = function
