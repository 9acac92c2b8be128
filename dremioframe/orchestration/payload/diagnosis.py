"""Why an object cannot be encoded or decoded, in words a user can act on.

What lives here: the two errors of the package and the search for the path to a bad object. What may not: pickling.

A pickler cannot say *where* in a value it failed; its trail (every object it was asked to reduce, in order) says *at
what* it failed: nearly always the last one. :func:`path_to` finds that object by walking the value the way a reader
would write it down (``['rows'][3].lock``). Probing parts of the value by pickling them again was rejected: quadratic,
and it runs the user's ``__reduce__`` methods many more times.

The search is made in the thread of the run, where nothing else happens meanwhile: it builds nothing before that is
wanted, passes over numbers and texts, and is given up after a tenth of a second. Then the message has no path.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from itertools import islice
from time import monotonic
from types import FunctionType, MethodType

from .. import failpoints
from .guard import class_name, module_name, must_pass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, TypeAlias, TypeGuard

    Step: TypeAlias = tuple[Callable[[Any], str], Any]
    Found: TypeAlias = tuple[object, Step]
    #: What was found, in what, and the step from there.
    Node: TypeAlias = tuple[object, "Node | None", Step | None]
    #: What is to be looked into, and the rest of what it holds if that has begun.
    Waiting: TypeAlias = tuple[Node, Iterator[Found] | None]

_PATIENCE_S = 0.1
#: Steps taken whatever the time: about a millisecond, so that a small value has its path on a slow machine, too.
_STEPS_AT_LEAST = 1_000
#: So much of a container is looked at before what waits behind it.
_TURN = 200
#: Of a container's atoms one in so many is given, for its taker to look at the time.
_ATOMS_IN_A_ROW = 64
#: So much of the trail's end is looked for. What was reduced before it is far from what failed.
_TRAIL_LIMIT = 50_000
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


def path_to(root: object, trail: Sequence[object], *, patience_s: float = _PATIENCE_S) -> str:
    """The path from ``root`` to the object the pickler failed at.

    Args:
        root: The value that could not be encoded.
        trail: Every object the pickler was asked to reduce, in order. Must keep them alive: they are told apart by id.
        patience_s: Seconds after which the search is given up.

    Returns:
        The path; empty for ``root`` itself, where the search ran into code of the user's that raises, and where it
        took too long.
    """
    try:
        return _search(root, trail, _patience(patience_s))
    except BaseException as error:
        if must_pass(error):
            raise
        return ""


def _patience(limit_s: float) -> Callable[[int], None]:
    """What is told of each so many steps, and raises TimeoutError when they take too long."""
    until, taken = monotonic() + limit_s, 0

    def spend(steps: int) -> None:
        nonlocal taken
        taken += steps
        if taken > _STEPS_AT_LEAST and monotonic() > until:
            raise TimeoutError(f"a path was looked for in vain for {limit_s} s")

    return spend


def _search(root: object, trail: Sequence[object], spend: Callable[[int], None]) -> str:
    wanted = {id(item): position for position, item in enumerate(trail[-_TRAIL_LIMIT:])}
    best, best_position = None, -1
    for node in _walk(root, spend):
        position = wanted.get(id(node[0]), -1)
        if position > best_position:
            best, best_position = node, position
            if node[0] is trail[-1]:
                break
    return "" if best is None else _written(best)


def _walk(root: object, spend: Callable[[int], None]) -> Iterator[Node]:
    """Every object reachable from ``root`` once, nearest first.

    But nothing waits for the end of a long container: of that a turn's worth is taken at a time, and what comes out of
    the second turn and later ones is looked into last of all.
    """
    nodes: list[Node] = [(root, None, None)]  # to the end: what lives no longer may have the id of what is seen next
    seen = {id(root)}
    yield nodes[0]
    queue: deque[Waiting] = deque([(nodes[0], None)])
    last_of_all: deque[Waiting] = deque()
    while queue or last_of_all:
        parent, rest = (queue or last_of_all).popleft()
        found = rest or children(parent[0])
        turn = list(islice(found, _TURN))
        spend(1 + len(turn))
        if len(turn) == _TURN:
            queue.append((parent, found))
        for child, step in turn:
            if id(type(child)) not in _ATOMS and id(child) not in seen:
                seen.add(id(child))
                nodes.append((child, parent, step))
                (queue if rest is None else last_of_all).append((nodes[-1], None))
                yield nodes[-1]


def _written(node: Node) -> str:
    steps = []
    while node[1] is not None and node[2] is not None:
        write, key = node[2]
        steps.append(write(key))
        node = node[1]
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
    """What ``parent`` holds, with how to write the way there. Its own code may run; errors of it end the list.

    Of the numbers, texts and the like that a container holds most are left out.
    """
    try:
        if isinstance(parent, dict):
            yield from ((value, (_item, key)) for key, value in _mostly_no_atoms(parent.items()))
            yield from ((key, (_key, position)) for position, key in _mostly_no_atoms(enumerate(parent)))
        elif isinstance(parent, list | tuple | deque):
            names = getattr(parent, "_fields", None)
            for index, value in _mostly_no_atoms(enumerate(parent)):
                yield value, (_attribute, names[index]) if names else (_item, index)
        elif isinstance(parent, set | frozenset):
            yield from ((value, (_member, position)) for position, value in _mostly_no_atoms(enumerate(parent)))
        elif isinstance(parent, FunctionType):
            yield from _children_of_function(parent)
        elif isinstance(parent, MethodType | partial):
            names = ("__self__", "__func__") if isinstance(parent, MethodType) else ("func", "args", "keywords")
            yield from ((getattr(parent, name), (_attribute, name)) for name in names)
        elif _is_array_of_objects(parent):
            yield from ((value, (_item, index)) for index, value in _mostly_no_atoms(enumerate(parent)))
        yield from _attributes(parent)
    except BaseException as error:  # a __getattr__ or __iter__ of the user's; a shorter path is the only loss
        if must_pass(error):
            raise


def _mostly_no_atoms(pairs: Iterable[tuple[Any, object]]) -> Iterator[tuple[Any, object]]:
    for passed, pair in enumerate(pairs):
        if id(type(pair[1])) not in _ATOMS or passed % _ATOMS_IN_A_ROW == 0:
            yield pair


def _is_array_of_objects(parent: Any) -> TypeGuard[Iterable[object]]:
    """Whether it is an array, or a record in one, that holds more than numbers, which there may be a gigabyte of."""
    kind = type(parent)
    return module_name(kind) == "numpy" and class_name(kind) in {"ndarray", "void"} and bool(parent.dtype.hasobject)


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
    yield from ((value, (_attribute, name)) for name, value in getattr(parent, "__dict__", {}).items())
    for base in type(parent).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(parent, name):
                yield getattr(parent, name), (_attribute, name)
