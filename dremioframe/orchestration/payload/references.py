"""Code between processes: classes and functions by name, by token or by value.

======================  ===========================================================================================
by name                 a worker can import it from the same file (:mod:`.importable`)
by token                it is met in a value; the other side has it already or asks for its blob (:mod:`.tokens`)
by value                it is met in a blob of code or in a pickle for anybody, or was made in a worker and goes back
                        (:mod:`.by_value`)
both                    a function with state: its code by token, what it holds by value (:mod:`.twins`)
======================  ===========================================================================================

What lives here: that choice, and what the engine calls. What may not: byte formats of values (:mod:`.codec`).

In the process that owns the code::

    blob = pack_code(function)          # once; named by digest(blob) afterwards
    blob = blob_for_token(token)        # when a worker asks

In a worker::

    connect(fetch)                      # once: how to ask
    begin_run()                         # whenever another run begins
    function = load_code(blob)
"""

from __future__ import annotations

from _pickle import Pickler, loads  # see codec
from io import BytesIO
from types import FunctionType

from .. import failpoints
from . import importable, namespaces, reducers, tokens, twins
from .diagnosis import EncodeError, describe, path_to
from .guard import must_pass

try:
    from _blake2 import blake2b  # what hashlib would give, without its search for OpenSSL: 3 ms of import
except ImportError:  # an interpreter built without it
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, TypeAlias

    from .tokens import Code

    Direction: TypeAlias = Literal[0, 1, 2, 3]
    Pins: TypeAlias = dict[bytes, Code]

#: A value for a worker: code that cannot go by name is named by token, the worker asks for it when it needs it.
DOWN: Direction = 0
#: A value from a worker: what came from above is named by the token it came under, what was made here goes by value.
UP: Direction = 1
#: Code for a worker: everything that cannot go by name is in the blob, for a worker needs all of it anyway.
CODE: Direction = 2
#: A value for whoever may read it, in whatever process: all that cannot go by name is in it.
ANYBODY: Direction = 3


class NeedsByValueError(Exception):
    """A plain pickler met code that has to go by value."""


def connect(fetch: Callable[[bytes], bytes]) -> None:
    """Make this process a worker.

    Args:
        fetch: Asks the process above for the blob of a token (its ``blob_for_token``). May be called while any value
            or code is decoded.
    """
    tokens.connect(fetch, load_code)


def begin_run() -> None:
    """Another run begins: code received from above is asked for again when it is next met, for it may have changed."""
    tokens.begin_run()
    namespaces.begin_run()


def pack_code(obj: object, pins: Pins | None = None) -> bytes:
    """Code, and whatever it refers to, as a blob for :func:`load_code`.

    Args:
        obj: A callable, or a tuple of such.
        pins: Collects the classes and functions that the blob tells by token. Tokens do not keep them alive; whoever
            may have to decode results long after the run keeps this with them.

    Raises:
        EncodeError: It cannot be pickled.

    Example:
        >>> load_code(pack_code(len)) is len
        True
    """
    return _pack(obj, CODE, pins)


def pack_for_anybody(obj: object) -> bytes:
    """A value as a blob for :func:`load_code` of any process.

    In a program that knows the classes and functions in it they are that program's own. In any other they are this
    blob's: with globals of their own, and with the state that they had here.

    Raises:
        EncodeError: It cannot be pickled.
    """
    return _pack(obj, ANYBODY, None)


def _pack(obj: object, direction: Direction, pins: Pins | None) -> bytes:
    try:
        return _pack_by_name(obj)
    except BaseException as error:  # whatever a plain pickler cannot do, the other one tries
        if must_pass(error) or (failpoints.armed and failpoints.hit("references.by_value")):
            raise
    return _pack_by_value(obj, direction, pins)


def load_code(blob: Any) -> Any:
    """What :func:`pack_code` packed. Any exception may come out: this imports modules and runs their code."""
    return loads(blob)


def blob_for_token(token: bytes, pins: Pins | None = None) -> bytes:
    """The blob that a worker asks for by token.

    Raises:
        UnknownTokenError: The class or function is gone.
        EncodeError: It, or something it refers to, cannot be pickled.
    """
    code = tokens.known(token)
    if code is None and (whole := tokens.known(twins.bare(token))) is not None:
        code = twins.Bare(whole)
    # A worker may be the owner of workers itself: what it does not know it asks its own owner for.
    return tokens.fetch_blob(token) if code is None else _pack_by_value(code, CODE, pins)


def digest(blob: bytes) -> bytes:
    """16 bytes that name a blob."""
    return blake2b(blob, digest_size=16).digest()


def outward(pins: Pins | None) -> Direction:
    """The direction of a value that leaves this process: up for a worker, unless it says what it keeps alive."""
    return UP if tokens.is_worker() and pins is None else DOWN


def reduce(code: Code, direction: Direction, pins: Pins | None) -> Any:
    """A class or function as a pickler's reduced form, or None if it has to go by value."""
    name = importable.named(code)
    if name is not None:
        # NotImplemented is pickle's own way by name, which can do all but unwrap.
        return (importable.find, name) if name[2] else NotImplemented
    if isinstance(code, type) and not code.__flags__ & importable.HEAP_TYPE_FLAG:
        return NotImplemented  # compiled: there is no value to go by
    if direction in (DOWN, UP) and type(code) is FunctionType and twins.has_state(code):
        return _as_twin(code, direction, pins)
    return by_token(code, direction, pins)


def _as_twin(function: FunctionType, direction: Direction, pins: Pins | None) -> Any:
    token = tokens.token_of(function) if direction == DOWN else twins.token_from_above(function)
    if token is None:
        return None
    if pins is not None:
        pins[token] = function
    return twins.reduce(function, token)


def by_token(code: Code, direction: Direction, pins: Pins | None) -> Any:
    """What has no name elsewhere as a pickler's reduced form, or None if it has to go by value."""
    if direction not in (DOWN, UP):
        return None
    token = tokens.token_of(code) if direction == DOWN else tokens.token_from_above(code)
    if token is None:
        return None
    if pins is not None:
        pins[token] = code
    return tokens.resolve, (token,)


class _PlainPickler(Pickler):
    """C's pickler with code by name or token. It is asked only about what is no builtin container or atom."""

    # No __init__ and no __dict__: for a small value they would cost as much as its pickle.
    __slots__ = ("pins",)
    direction: Direction = CODE
    pins: Pins

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is FunctionType or issubclass(kind, type):
            reduced = reduce(obj, self.direction, getattr(self, "pins", None))
            if reduced is None:
                raise NeedsByValueError
            return reduced
        return reducers.reduce(obj, kind)


class _DownPickler(_PlainPickler):
    __slots__ = ()
    direction = DOWN


class _UpPickler(_PlainPickler):
    __slots__ = ()
    direction = UP


#: By direction: plain picklers, which raise :class:`NeedsByValueError` when they are not up to it.
PLAIN_PICKLERS: dict[Direction, type[_PlainPickler]] = {CODE: _PlainPickler, DOWN: _DownPickler, UP: _UpPickler}


def check_names(stream: bytes) -> None:
    """Look for objects that pickle as a name of ``__main__``, which a worker's has not (a sentinel, a NewType).

    Raises:
        NeedsByValueError: There may be one; it may also be a text of the user's.
    """
    if stream.find(b"__main__") >= 0:
        raise NeedsByValueError


def _pack_by_name(obj: object) -> bytes:
    file = BytesIO()
    _PlainPickler(file, 5).dump(obj)
    blob = file.getvalue()
    check_names(blob)
    return blob


def _pack_by_value(obj: object, direction: Direction, pins: Pins | None) -> bytes:
    from .by_value import Pickler as ByValuePickler

    file = BytesIO()
    pickler = ByValuePickler(file, direction, pins)
    try:
        pickler.dump(obj)
    except BaseException as error:
        if must_pass(error):
            raise
        raise EncodeError(path_to(obj, pickler.trail), describe(error)) from error
    return file.getvalue()
