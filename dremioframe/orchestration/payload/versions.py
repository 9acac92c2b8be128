"""Classes that were made in a worker: changed by another task they are another class.

Such a class has no owner that could say what it is like: each task that returns it sends it by value, and under one
token the first of two states would hide the other from whoever reads both. So a class gets another token when it is
sent, if it is not as it was when it was sent, or came, before. As it came it keeps its token, whoever sends it on.

What lives here: noticing that. What may not: classes of the script, which are the owner's as they are there.
"""

from __future__ import annotations

from . import namespaces, tokens
from .identity import ByIdentity
from .initial import content_digest, is_of_the_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    #: By attribute: something that is the same as long as the attribute is. Not the value, which may hold the class.
    State = dict[str, tuple[Any, ...]]

#: Of a class: its state when it came, or was last sent.
_states = ByIdentity()


def note(cls: type) -> None:
    """A class has come and is complete."""
    if tokens.is_worker() and tokens.token_from_above(cls) is None:
        _look(cls)


def tell_apart(cls: type) -> None:
    """A class is about to be sent: give it another token if it has changed."""
    known = _states.get(cls)
    state = _look(cls)
    if known is not None and known != state:
        tokens.renew(cls)
        _look(cls)  # its instances among the attributes name the token


def _look(cls: type) -> State:
    state = {name: _told(value) for name, value in list(cls.__dict__.items()) if is_of_the_user(name)}
    _states.put(cls, state)
    return state


def _told(value: object) -> tuple[Any, ...]:
    if type(value) in namespaces.PLAIN:
        return namespaces.mark(value)
    return id(value), content_digest(value)
