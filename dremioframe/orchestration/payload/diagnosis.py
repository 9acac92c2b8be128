"""Why an object cannot be encoded or decoded, in words a user can act on.

What lives here: the two errors of the package and the search for the path to a bad object. What may not: pickling.

A pickler cannot say *where* in a value it failed; its trail (every object it was asked to reduce, in order) says *at
what* it failed: nearly always the last one. :func:`path_to` finds that object by walking the value the way a reader
would write it down (``['rows'][3].lock``). Probing parts of the value by pickling them again was rejected: quadratic,
and it runs the user's ``__reduce__`` methods many more times.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from types import FunctionType, MethodType

from .. import failpoints
from .guard import class_name, must_pass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, TypeAlias

    Step: TypeAlias = tuple[Callable[[Any], str], Any]
    Found: TypeAlias = tuple[object, Step]

#: Objects looked at before the search is given up: about a second, against a message without a path.
_SEARCH_LIMIT = 500_000
_REASON_LIMIT = 2_000
TEXT_LIMIT = 64 * 1024
_KEY_LIMIT = 80
#: By id: a metaclass may have a ``__hash__`` that raises.
_ATOMS = frozenset(map(id, (type(None), bool, int, float, complex, str, bytes, bytearray, type, type(len))))


class EncodeError(Exception):
    """An object cannot be turned into bytes.

    Attributes:
        path: Where in the value the bad object sits, e.g. ``"['rows'][3].lock"``; empty for the value itself.
        reason: What pickle, or the object's own code, said.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path or 'the value itself'}: {self.reason}"


class DecodeError(Exception):
    """Bytes cannot be turned into an object: damaged, or the object's own code failed (see ``__cause__``).

    Attributes:
        reason: What was wrong.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def describe(error: BaseException) -> str:
    """``"TypeError: cannot pickle '_thread.lock' object"``, whatever the error's own ``__str__`` does."""
    name = class_name(type(error))
    text = guarded_text(error)
    return f"{name}: {text[:_REASON_LIMIT]}" if text else name


def cut(text: str) -> str:
    """``text``, without its middle if it is longer than 64 KiB: a traceback says most at its end."""
    if len(text) <= TEXT_LIMIT:
        return text
    head, tail = text[: TEXT_LIMIT // 4], text[-TEXT_LIMIT // 2 :]
    return f"{head}\n... {len(text) - len(head) - len(tail)} characters left out ...\n{tail}"


def guarded_text(value: object, show: Callable[[Any], str] = str) -> str:
    """``str(value)``, or words that say why there is none; text and nothing that only descends from it."""
    try:
        return str.__str__(show(value))
    except BaseException as error:
        if must_pass(error) or (failpoints.armed and failpoints.hit("diagnosis.guarded_text")):
            raise
        return f"<{class_name(type(value))} object, whose text cannot be had: {class_name(type(error))}>"


def path_to(root: object, trail: Sequence[object]) -> str:
    """The path from ``root`` to the object the pickler failed at.

    Args:
        root: The value that could not be encoded.
        trail: Every object the pickler was asked to reduce, in order. Must keep them alive: they are told apart by id.

    Returns:
        The path; empty for ``root`` itself, and where the search ran into code of the user's that raises.
    """
    try:
        return _search(root, trail)
    except BaseException as error:
        if must_pass(error):
            raise
        return ""


def _search(root: object, trail: Sequence[object]) -> str:
    wanted = {id(item): position for position, item in enumerate(trail)}
    best, best_position = None, -1
    nodes: list[_Node] = []
    for node in _walk(root, nodes):
        position = wanted.get(id(node[0]), -1)
        if position > best_position:
            best, best_position = node, position
            if position == len(trail) - 1:
                break
    return "" if best is None else _written(best, nodes)


if TYPE_CHECKING:
    _Node: TypeAlias = tuple[object, int, Step | None]


def _walk(root: object, nodes: list[_Node]) -> Iterator[_Node]:
    """Every object reachable from ``root``, nearest first; ``nodes`` receives them, each with its parent's index."""
    nodes.append((root, -1, None))
    seen = {id(root)}
    index = 0
    while index < len(nodes) < _SEARCH_LIMIT:
        node = nodes[index]
        yield node
        for child, step in children(node[0]):
            if id(type(child)) not in _ATOMS and id(child) not in seen:
                seen.add(id(child))
                nodes.append((child, index, step))
        index += 1


def _written(node: _Node, nodes: list[_Node]) -> str:
    steps = []
    while node[2] is not None:
        write, key = node[2]
        steps.append(write(key))
        node = nodes[node[1]]
    if len(steps) > 40:  # a chain this long is cut in the middle: both ends tell something, the rest does not
        steps[20:-20] = ["..."]
    return "".join(reversed(steps))


def _item(key: object) -> str:
    text = guarded_text(key, repr)
    return f"[{text}]" if len(text) <= _KEY_LIMIT else f"[{text[:_KEY_LIMIT]}...]"


_attribute = ".{}".format
_key = "<key {}>".format
_member = "<member {}>".format
_captured = "<closure {}>".format
_global = "<global {}>".format
_default = "<default {}>".format


def children(parent: object) -> Iterator[Found]:
    """What ``parent`` holds, with how to write the way there. Its own code may run; errors of it end the list."""
    try:
        if isinstance(parent, dict):
            yield from [(value, (_item, key)) for key, value in parent.items()]
            yield from [(key, (_key, position)) for position, key in enumerate(parent)]
        elif isinstance(parent, list | tuple | deque):
            names = getattr(parent, "_fields", None)
            yield from [
                (value, (_attribute, names[index]) if names else (_item, index)) for index, value in enumerate(parent)
            ]
        elif isinstance(parent, set | frozenset):
            yield from [(value, (_member, position)) for position, value in enumerate(parent)]
        elif isinstance(parent, FunctionType):
            yield from _children_of_function(parent)
        elif isinstance(parent, MethodType | partial):
            names = ("__self__", "__func__") if isinstance(parent, MethodType) else ("func", "args", "keywords")
            yield from [(getattr(parent, name), (_attribute, name)) for name in names]
        elif type(parent).__module__ == "numpy" and type(parent).__name__ == "ndarray":
            yield from [(value, (_item, index)) for index, value in enumerate(parent.tolist())]  # type: ignore[attr-defined]
        yield from _attributes(parent)
    except BaseException as error:  # a __getattr__ or __iter__ of the user's; a shorter path is the only loss
        if must_pass(error):
            raise


def _children_of_function(function: FunctionType) -> Iterator[Found]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield cell.cell_contents, (_captured, name)
        except ValueError:
            continue  # a variable that is not assigned yet
    for index, value in enumerate(function.__defaults__ or ()):
        yield value, (_default, index)
    for name in _names_used(code):
        if name in function.__globals__:
            yield function.__globals__[name], (_global, name)


def _names_used(code: Any) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            yield from _names_used(constant)


def _attributes(parent: object) -> Iterator[Found]:
    if isinstance(parent, BaseException):
        yield parent.args, (_attribute, "args")
    yield from [(value, (_attribute, name)) for name, value in getattr(parent, "__dict__", {}).items()]
    for base in type(parent).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(parent, name):
                yield getattr(parent, name), (_attribute, name)
