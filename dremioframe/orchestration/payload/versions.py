"""Classes that were made in a worker: changed by another task they are another class.

Such a class has no owner that could say what it is like: each task that returns it sends it by value, and under one
token the first of two states would hide the other from whoever reads both. So a class gets another token when it is
sent, if it is not as it was when it was sent, or came, before. As it came it keeps its token, whoever sends it on.

What lives here: noticing that. What may not: classes of the script, which are the owner's as they are there.
"""

from __future__ import annotations

from weakref import ref

from . import namespaces, tokens
from .initial import content_digest, is_of_the_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    #: By attribute: something that is the same as long as the attribute is. Not the value, which may hold the class.
    State = dict[str, tuple[Any, ...]]

_states: dict[int, tuple[ref[type], State]] = {}


def note(cls: type) -> None:
    """A class has come and is complete."""
    if tokens.is_worker() and tokens.token_from_above(cls) is None:
        _look(cls)


def tell_apart(cls: type) -> None:
    """A class is about to be sent: give it another token if it has changed."""
    known = _states.get(id(cls))
    state = _look(cls)
    if known is not None and known[0]() is cls and known[1] != state:
        tokens.renew(cls)
        _look(cls)  # its instances among the attributes name the token


def _look(cls: type) -> State:
    state = {name: _told(value) for name, value in list(cls.__dict__.items()) if is_of_the_user(name)}
    key = id(cls)

    def forget(dead: ref[type]) -> None:
        if _states.get(key, (None,))[0] is dead:
            del _states[key]

    _states[key] = ref(cls, forget), state
    return state


def _told(value: object) -> tuple[Any, ...]:
    if type(value) in namespaces.PLAIN:
        return namespaces.mark(value)
    return id(value), content_digest(value)
