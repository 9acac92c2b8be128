"""Exceptions as bytes: with what caused them, and only if they survive the journey.

What lives here: packing a chain of exceptions so that reading it back cannot fail. What may not: words about them.

Every exception is read back where it was raised, where a failure costs a message instead of a run: exceptions that
pickle, and then cannot be unpickled, have hung well-known pools. One that does not come back as it was becomes a
stand-in.
"""

from __future__ import annotations

from .. import failpoints
from ..errors import RemoteError
from . import codec, references
from .diagnosis import DecodeError, EncodeError, cut, describe, guarded_text
from .guard import (
    cause_of,
    context_of,
    hides_context,
    is_exception,
    must_pass,
    set_cause,
    set_context,
    set_hides_context,
)
from .traceback_text import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, NamedTuple
else:
    from ..light_typing import NamedTuple

#: A pickled chain beyond this is not sent: it holds data, not messages.
_LIMIT_BYTES = 4 << 20
#: Causes and contexts that travel with an exception.
_CHAIN_LIMIT = 50


class _Link(NamedTuple):
    """One exception of a chain, with the positions of those it hangs together with: pickle would drop them."""

    error: BaseException
    cause: int | None
    context: int | None
    hides_context: bool


def to_bytes(error: BaseException, encode: Callable[[object], codec.Payload] | None = None) -> bytes:
    """An exception and what caused it, or nothing if it would not survive the journey.

    Args:
        error: The exception.
        encode: Instead of the way of values between a worker and its owner.
    """
    chain = list(_chain(error))
    encode = encode or _encode
    data = _packed(chain, chain, encode)
    if data is None:
        forms = [_surviving_form(member, encode) for member in chain]
        if forms[0] is error:
            data = _packed(chain, forms, encode)
    return data or b""


def from_bytes(data: bytes) -> BaseException:
    """A fresh copy of what :func:`to_bytes` packed.

    Raises:
        DecodeError: The classes of the exceptions cannot be found or made here.
    """
    links = [_Link._make(link) for link in _decode(data)]
    if not all(is_exception(link.error) for link in links):
        raise DecodeError("what comes back is no exception")
    for link in links:  # not by name: a frozen dataclass refuses that, and others have properties of these names
        if failpoints.armed and failpoints.hit("exceptions.slots"):
            link.error.__cause__ = None
        set_cause(link.error, None if link.cause is None else links[link.cause].error)
        set_context(link.error, None if link.context is None else links[link.context].error)
        set_hides_context(link.error, link.hides_context)
    return links[0].error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and all it hangs together with, itself first."""
    waiting: list[BaseException] = [error]
    seen = {id(error)}
    for member in waiting:
        yield member
        for other in (cause_of(member), context_of(member)):
            if other is not None and id(other) not in seen and len(seen) < _CHAIN_LIMIT:
                seen.add(id(other))
                waiting.append(other)


def _encode(links: object) -> codec.Payload:
    payload = codec.encode(links)
    if payload.size > _LIMIT_BYTES:
        raise EncodeError("", f"{payload.size} bytes are too many")
    return payload


def encode_for_anybody(links: object) -> codec.Payload:
    """As a value that is a blob of code: such a blob can be read where nobody can be asked what a token means."""
    return codec.encode(references.pack_for_anybody(links))


def _decode(data: bytes) -> Any:
    links = codec.decode(data, private=False)
    if not isinstance(links, bytes):
        return links
    try:
        return references.load_code(links)
    except BaseException as error:
        if must_pass(error):
            raise
        raise DecodeError(describe(error)) from error


def _packed(
    chain: Sequence[BaseException], forms: Sequence[BaseException], encode: Callable[[object], codec.Payload]
) -> bytes | None:
    """The chain as bytes, each member in its form, or None if that does not survive."""
    position = {id(member): index for index, member in enumerate(chain)}
    links = [
        (form, position.get(id(cause_of(one))), position.get(id(context_of(one))), hides_context(one))
        for one, form in zip(chain, forms, strict=True)
    ]
    try:
        data = encode(links).to_bytes()
        if failpoints.armed and failpoints.hit("exceptions.read_back"):
            return data
        copies = [link[0] for link in _decode(data)]
    except (EncodeError, DecodeError):
        if failpoints.armed and failpoints.hit("exceptions.stand_in"):
            raise
        return None
    return data if all(map(_is_alike, forms, copies)) else None


def _surviving_form(error: BaseException, encode: Callable[[object], codec.Payload]) -> BaseException:
    if _packed([error], [error], encode) is not None:
        return error
    return RemoteError(cut(guarded_text(error)), type_name(type(error)))


def _is_alike(error: BaseException, copy: object) -> bool:
    return type(copy) is type(error) and guarded_text(copy) == guarded_text(error)
