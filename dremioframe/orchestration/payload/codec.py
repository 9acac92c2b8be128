"""Values to bytes and back.

A value without large buffers is its pickle and a checksum::

    | pickle stream (protocol 5, begins with 0x80) | crc32 |

A value with large buffers (NumPy, Arrow, pandas, Polars) keeps them out of the stream, each on a 64-byte boundary, so
that a reader may map the whole and use them where they lie::

    | magic | count | stream length | count x length | stream | crc32 | padding | buffer | padding | buffer ...

The checksum covers all that is interpreted and not the buffers. It is there because the unpickler trusts its input: one
flipped bit can make it ask for 64 GiB or call what nobody meant to call.

What lives here: this format. What may not: how code travels (:mod:`.references`) and types that need help
(:mod:`.reducers`).
"""

from __future__ import annotations

from _pickle import PickleBuffer, dumps, loads  # the module pickle is 4 ms of import, with re, for what this needs
from functools import cache, partial
from io import BytesIO
from struct import Struct, unpack_from
from struct import pack as pack_struct
from zlib import crc32

from .. import failpoints
from . import references
from .as_found import AsFound
from .diagnosis import DecodeError, EncodeError, describe, path_to
from .guard import must_pass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, TypeAlias

    from .by_value import Pickler as ByValuePickler
    from .references import Direction, Pins

    BytesLike: TypeAlias = bytes | bytearray | memoryview

__all__ = ["DecodeError", "EncodeError", "Payload", "decode", "encode"]

_ALIGNMENT = 64
_PADDING = [bytes(size) for size in range(_ALIGNMENT)]
#: Smaller buffers stay in the stream: copying them is cheaper than keeping account of them.
_OUT_OF_BAND_BYTES = 1024
_HEADER = Struct("<4sIQ")
_MAGIC = b"dfp1"
_PICKLE_START = 0x80
_CRC_BYTES = 4
#: crc32 of anything followed by its own crc32, little-endian.
_CRC_RESIDUE = 0x2144DF1C
#: Up to this size the checksum is joined to the stream: a copy costs less than a second part on its whole way.
_JOIN_BYTES = 16_384
_ATOMS = frozenset({type(None), bool, int, float, str, bytes})


class Payload:
    """An encoded value, ready to be written.

    Attributes:
        parts: Bytes-like objects to be written one after another. Some are the value's own memory: write them before
            the value changes.
        size: Their total length in bytes.
    """

    __slots__ = ("parts", "size")

    def __init__(self, parts: Sequence[BytesLike], size: int) -> None:
        self.parts = parts
        self.size = size

    def to_bytes(self) -> bytes:
        """All parts in one piece."""
        return b"".join(self.parts)


def encode(value: object, pins: Pins | None = None) -> Payload:
    """Turn a value into bytes.

    Args:
        value: Anything that pickle or cloudpickle can pickle.
        pins: Collects the classes and functions that the payload tells by token; see :func:`.references.pack_code`.
            A worker that owns workers itself says with it that the value is for those.

    Raises:
        EncodeError: It, or something in it, cannot be pickled; says where in it and why.

    Example:
        >>> decode(encode({"rows": [1, 2]}).to_bytes(), private=False)
        {'rows': [1, 2]}
    """
    if value is None:  # what most tasks return that are called for what they do
        return _NOTHING
    try:
        if type(value) in _ATOMS:  # in here: a metaclass may have a __hash__ that raises
            if type(value) is bytes and len(value) > _JOIN_BYTES:
                return _assemble(_BYTES_OUT_OF_BAND, (memoryview(value),))
            return _assemble(dumps(value, 5), ())
        return _encode_plainly(value, references.outward(pins), pins)
    except MemoryError as error:
        raise EncodeError("", describe(error)) from error
    except BaseException as error:  # whatever a plain pickler cannot do, the other one tries
        if must_pass(error):
            raise
    return _encode_by_value(value, references.outward(pins), pins)


def decode(data: BytesLike, *, private: bool) -> Any:
    """Turn bytes into the value.

    Args:
        data: What :func:`encode` produced.
        private: ``data`` is writable memory that nobody else uses (a private mapping): arrays are built over it and
            keep it alive. Otherwise large buffers are copied. Arrays are writable either way.

    Raises:
        DecodeError: The bytes are damaged, or code that rebuilds the value failed (``__cause__``).
    """
    try:
        if data == _NOTHING_BYTES:  # as in ``encode``
            return None
        if data[0] == _PICKLE_START:
            if crc32(data) != _CRC_RESIDUE:
                raise DecodeError("damaged: its checksum does not fit")
            return loads(data)
        view = memoryview(data)
        stream, buffers = _split(view)
        return loads(stream, buffers=buffers if private and not view.readonly else map(bytearray, buffers))
    except DecodeError:
        raise
    except BaseException as error:  # the user's code may raise anything here
        if must_pass(error):
            raise
        raise DecodeError(describe(error)) from error


# --- pickling ---------------------------------------------------------------------------------------------------------


def _encode_plainly(value: object, direction: Direction, pins: Pins | None) -> Payload:
    file = BytesIO()
    buffers: list[memoryview] = []
    pickler = references.PLAIN_PICKLERS[direction](file, 5, buffer_callback=partial(_stays_in_stream, buffers))
    if pins is not None:
        pickler.pins = pins
    pickler.dump(value)
    stream = file.getvalue()
    references.check_names(stream)
    return _assemble(stream, buffers)


def _encode_by_value(value: object, direction: Direction, pins: Pins | None) -> Payload:
    file = BytesIO()
    buffers: list[memoryview] = []
    pickler = _by_value_pickler()(file, direction, pins, partial(_stays_in_stream, buffers))
    try:
        pickler.dump(value)
    except BaseException as error:
        if must_pass(error) or (failpoints.armed and failpoints.hit("codec.refusal")):
            raise
        raise EncodeError(path_to(value, pickler.trail), describe(error)) from error
    return _assemble(file.getvalue(), buffers)


@cache  # to put the functions in place takes as long as many a value
def _by_value_pickler() -> type[ByValuePickler]:
    with AsFound():
        from .by_value import Pickler
    return Pickler


def _stays_in_stream(out_of_band: list[memoryview], buffer: PickleBuffer) -> bool:
    """Pickle's question about each buffer; collects those that do not."""
    raw = buffer.raw()
    if raw.nbytes < _OUT_OF_BAND_BYTES:
        return True
    out_of_band.append(raw)
    return False


# --- the format -------------------------------------------------------------------------------------------------------


def _assemble(stream: bytes, buffers: Sequence[memoryview]) -> Payload:
    if buffers:
        return _assemble_with_buffers(stream, buffers)
    end = crc32(stream).to_bytes(_CRC_BYTES, "little")
    size = len(stream) + _CRC_BYTES
    return Payload((stream + end,) if size <= _JOIN_BYTES else (stream, end), size)


def _assemble_with_buffers(stream: bytes, buffers: Sequence[memoryview]) -> Payload:
    head = _HEADER.pack(_MAGIC, len(buffers), len(stream))
    head += pack_struct(f"<{len(buffers)}Q", *[buffer.nbytes for buffer in buffers])
    end = crc32(stream, crc32(head)).to_bytes(_CRC_BYTES, "little")
    parts: list[BytesLike] = [head, stream, end]
    size = len(head) + len(stream) + _CRC_BYTES
    for buffer in buffers:
        padding = -size % _ALIGNMENT
        parts += (_PADDING[padding], buffer)
        size += padding + buffer.nbytes
    return Payload(parts, size)


def _split(view: memoryview) -> tuple[memoryview, list[memoryview]]:
    """The stream and the buffers of a payload that has some. Every length is checked before it is used."""
    if view.nbytes < _HEADER.size:
        raise DecodeError(f"damaged: {view.nbytes} bytes are too few")
    magic, count, stream_size = _HEADER.unpack_from(view)
    stream_start = _HEADER.size + 8 * count
    head_size = stream_start + stream_size + _CRC_BYTES
    if magic != _MAGIC or head_size > view.nbytes:
        raise DecodeError("damaged: no payload starts like this")
    if crc32(view[:head_size]) != _CRC_RESIDUE:
        raise DecodeError("damaged: its checksum does not fit")
    sizes = unpack_from(f"<{count}Q", view, _HEADER.size)
    buffers = list(_buffers(view, head_size, sizes))
    return view[stream_start : stream_start + stream_size], buffers


def _buffers(view: memoryview, end: int, sizes: tuple[int, ...]) -> Iterator[memoryview]:
    for size in sizes:
        start = end + -end % _ALIGNMENT
        end = start + size
        if end > view.nbytes:
            raise DecodeError("damaged: it is shorter than it says")
        yield view[start:end]
    if end != view.nbytes:
        raise DecodeError("damaged: it is longer than it says")


class _OutOfBand:
    """What pickle is shown instead of ``bytes``, which it would copy into the stream, with a checksum over all."""

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (PickleBuffer(b""),)


_BYTES_OUT_OF_BAND = dumps(_OutOfBand(), 5, buffer_callback=lambda _: None)
_NOTHING = _assemble(dumps(None, 5), ())
_NOTHING_BYTES = _NOTHING.to_bytes()
