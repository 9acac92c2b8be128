"""Exceptions in a pickle that may be read anywhere: in a file, a queue, a process that is no worker of this one.

What lives here: the form in which a record holds a user's exception, and the stand-in for one that cannot be read. What
may not: the way of exceptions from a worker to its owner (:mod:`.exceptions`), which names code by token.
"""

from __future__ import annotations

from .. import errors
from . import exceptions
from .diagnosis import DecodeError, cut, guarded_text
from .traceback_text import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def to_bytes(error: BaseException) -> bytes:
    """An exception and what caused it for :func:`.exceptions.from_bytes` in any process; nothing if it cannot be."""
    return exceptions.to_bytes(error, exceptions.encode_for_anybody)


def from_bytes(data: bytes, message: str, error_type: str, traceback_text: str) -> BaseException:
    """What :class:`Portable` pickled, or its stand-in."""
    if data:
        try:
            return exceptions.from_bytes(data)
        except DecodeError:
            pass  # its code is not here, or it could not be pickled in the first place
    return errors.RemoteError(message, error_type, traceback_text)


class Portable:
    """Stands for an exception in a pickle, and becomes it (or a stand-in) where that is read."""

    __slots__ = ("_error", "_traceback_text")

    def __init__(self, error: BaseException, traceback_text: str) -> None:
        self._error = error
        self._traceback_text = traceback_text

    def __reduce__(self) -> tuple[Any, ...]:
        error = self._error
        words = cut(guarded_text(error)), type_name(type(error)), self._traceback_text
        return from_bytes, (to_bytes(error), *words)


errors.pickled_cause = Portable
