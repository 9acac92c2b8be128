"""What an initializer has set in a worker: it stays there, whatever the script's own code brings for it.

A global, an entry of a container in a global, an attribute of a class or a function: each is compared with what the
initializer's own code had brought, by identity and, where it can be changed in place, by its pickle.

What lives here: that comparison, and the attributes of classes that stay. What may not: calling the initializer
(``pool``), and globals as such (:mod:`.namespaces`).
"""

from __future__ import annotations

from types import FunctionType, ModuleType

from . import codec, namespaces, tokens
from .guard import must_pass
from .references import digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from .namespaces import Mark
    from .tokens import Code

    #: By name: a value and the digest of its content. The value is kept, or another might get its id.
    Content: TypeAlias = dict[str, tuple[Any, bytes]]

#: Classes of which an initializer has set attributes, with these; by id, for a metaclass may forbid hashing.
_kept: dict[int, tuple[type, dict[str, Mark | None]]] = {}
#: No content, or none that can be told.
_NONE = b""


class Before:
    """What there is before an initializer is called: its own code, and what that refers to.

    Example::

        function = load_code(initializer)
        before = Before()
        function()
        before.keep_changes()
    """

    def __init__(self) -> None:
        self._globals = [(space, _content(space.globals)) for space in namespaces.all_known()]
        self._code = [(code, _content(vars(code))) for code in tokens.all_from_above() if _has_attributes(code)]

    def keep_changes(self) -> None:
        """What differs now was set by the initializer."""
        for space in namespaces.all_known():
            space.lasting.update(space.globals)
        for space, before in self._globals:
            space.kept.update(_changes(before, space.globals))
        for code, before in self._code:
            changes = _changes(before, vars(code))
            if not changes:
                continue
            if isinstance(code, type):
                _kept[id(code)] = code, changes
            else:
                tokens.keep(code)


def stays(cls: type, name: str, value: object) -> bool:
    """Whether an attribute that an initializer has set outlasts the script's value for it."""
    entry = _kept.get(id(cls))
    return entry is not None and namespaces.stays(entry[1], name, value)


def has_set(cls: type, name: str) -> bool:
    """Whether an initializer has set this attribute."""
    entry = _kept.get(id(cls))
    return entry is not None and name in entry[1]


def _has_attributes(code: Code) -> bool:
    return isinstance(code, type | FunctionType)


def _content(attributes: Any) -> Content:
    return {name: (value, content_digest(value)) for name, value in list(attributes.items()) if is_of_the_user(name)}


def is_of_the_user(name: str) -> bool:
    """Whether an attribute is none of those that Python, ``abc`` and ``enum`` keep for themselves."""
    return name != "_abc_impl" and not (name.startswith("_") and name.endswith("_"))


def _changes(before: Content, attributes: Any) -> dict[str, Mark | None]:
    """What was set, with the mark of what was there."""
    changes: dict[str, Mark | None] = {}
    for name, (value, content) in _content(attributes).items():
        if name not in before:
            changes[name] = None
        elif value is not before[name][0] or content != before[name][1]:
            changes[name] = namespaces.mark(before[name][0])
    return changes


def content_digest(value: Any) -> bytes:
    """The digest of what may change in an object while it stays the same; nothing if there is no such thing."""
    kind = type(value)
    if kind in namespaces.PLAIN or issubclass(kind, type | ModuleType):
        return _NONE
    try:
        if hasattr(kind, "__get__"):  # a function, a property: what can be set on one is looked at where it is known
            return _NONE
        return digest(codec.encode(value, {}).to_bytes())  # as for workers of this one: all code is named by token
    except BaseException as error:  # a connection, perhaps, which has been put into it
        if must_pass(error):
            raise
        return _NONE
