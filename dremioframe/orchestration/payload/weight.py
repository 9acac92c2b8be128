"""What makes a piece of code heavy: the variable that holds most of its bytes.

A function goes to each worker with whatever its closure, defaults and script's globals hold. A table that got there by
accident is noticed only as slowness; here it is found and named.

What lives here: that search, made only for code that was found too long. What may not: deciding what is too long.
"""

from __future__ import annotations

from functools import partial
from types import MethodType

from . import references
from .diagnosis import children
from .guard import must_pass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: How many steps into the code are taken: a variable of a function that a function calls, and a little more.
_DEPTH = 6


def heaviest(code: object) -> tuple[str, int]:
    """The way to the innermost thing that has more than half of what ``code`` takes, and the bytes it takes.

    Args:
        code: What was packed by :func:`.references.pack_code`.

    Example:
        ``("[0]<closure table>", 80_000_123)`` for a tuple with a function over a table.
    """
    try:
        return _heaviest(code)
    except BaseException as error:  # an object that raises when it is looked at; only the way to it is lost
        if must_pass(error):
            raise
        return "", 0


def _heaviest(code: object) -> tuple[str, int]:
    path, held = "", weigh(code)
    for _ in range(_DEPTH):
        found = [(weigh(child), child, step) for child, step in children(code)]
        weight, child, (write, key) = max(found, key=lambda item: item[0], default=(0, None, (str, "")))
        if 2 * weight <= held:
            break
        path, held = path + write(key), weight
        if not (callable(child) or isinstance(code, MethodType | partial)):
            break  # it is data, and what lies where in that is nobody's accident
        code = child
    return path, held


def weigh(thing: object) -> int:
    """Bytes that this adds to a piece of code; 0 if it cannot be pickled. Nothing is kept, and buffers are not read."""
    from .by_value import Pickler

    scales = _Scales()
    try:
        Pickler(scales, references.CODE, None, scales.add_buffer).dump(thing)
    except BaseException as error:
        if must_pass(error):
            raise
        return 0
    return scales.bytes


class _Scales:
    """A file that only knows how much was written to it."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, data: Any) -> int:
        size = len(data)
        self.bytes += size
        return size

    def add_buffer(self, buffer: Any) -> None:
        """A buffer that is not to be written."""
        with buffer.raw() as raw:
            self.bytes += raw.nbytes
