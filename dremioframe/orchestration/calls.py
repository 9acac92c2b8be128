"""How one attempt is written down for a worker in another process, and what that worker may ask for while it runs.

A *call body* is a fixed header and three variable parts, or the header alone with the parts to be fetched when they are
too long for a packet::

    header | arguments payload | task name | (name length, payload length, name, payload) of each inline input

The arguments come first because the buffers in them are aligned relative to where their payload starts.

No packet relies on an earlier one (they may be taken back and sent to another worker), so whatever many calls share
(code, the run's facts) is named by its digest and *asked for*. A request is one kind byte and its key; an answer is
bytes, or a mapping when it is long. Only answers that may be a refusal (``VALUE``) carry a status byte.

What lives here: formats. What may not: sending, unpickling.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import NamedTuple
else:
    from .light_typing import NamedTuple

#: Most bytes of a call body that ride in its packet. Above, the variable parts are fetched.
INLINE_LIMIT = 64 * 1024

#: Longer names are asked for by their digest: a request has to fit in a packet, a name may be of any length.
NAME_LIMIT = 1024

_HEAD = struct.Struct("<16s16sIIIIB")
_ENTRY = struct.Struct("<II")

#: Flags: the variable parts of the call have to be fetched; the attempt has a memory limit.
EXTERNAL, LIMITED = 1, 2


class Request:
    """Kinds of requests, each followed by its key."""

    CODE = b"C"  # digest -> code of an attempt.Job, made by payload.references.pack_code
    TOKEN = b"T"  # token -> code of one function or class
    RUN = b"R"  # digest -> RunFacts
    PARTS = b"P"  # (nothing) -> the variable parts of this call
    VALUE = b"V"  # name -> PRESENT + payload | the payload's own mapping | ABSENT + reason | UNSENDABLE + failure
    LONG_VALUE = b"L"  # digest of a name of more than NAME_LIMIT bytes -> as VALUE
    STATES = b"S"  # (nothing) -> [(name, state), ...]
    FAILURES = b"F"  # (nothing) -> [(name, attempt, failure bytes), ...]


PRESENT = b"\x00"
ABSENT = b"\x01"
UNSENDABLE = b"\x02"


class RunFacts(NamedTuple):
    """What all attempts of a run share.

    Attributes:
        run_id: Unique text of the run.
        pipeline_name: Name of the pipeline.
        run_names: Names of the run's own values.
        sys_path: The coordinator's ``sys.path`` when the run started.
        cwd: Its working directory then, or None if that no longer existed.
        environ: The environment workers are to have.
    """

    run_id: str
    pipeline_name: str
    run_names: tuple[str, ...]
    sys_path: list[str]
    cwd: str | None
    environ: dict[str, str]


HEAD_SIZE = _HEAD.size


def pack_call(
    code: bytes, run: bytes, task: int, attempt: int, args: bytes, name: bytes, inputs: bytes, flags: int = 0
) -> bytes:
    """One call body; more than ``INLINE_LIMIT`` of variable parts make it :func:`pack_external_call`."""
    head = _HEAD.pack(code, run, task, attempt, len(args), len(name), flags)
    return b"".join((head, args, name, inputs)) if args or inputs else head + name


def pack_external_call(
    code: bytes, run: bytes, task: int, attempt: int, args_length: int, name_length: int, flags: int = 0
) -> bytes:
    """A call body whose variable parts the worker fetches with ``Request.PARTS``."""
    return _HEAD.pack(code, run, task, attempt, args_length, name_length, EXTERNAL | flags)


def read_head(body: memoryview | bytes) -> tuple[bytes, bytes, int, int, int, int, int]:
    """Read the fixed part: digests of code and run, task, attempt, lengths of arguments and name, flags.

    Raises:
        struct.error: The body is too short to be one.
    """
    return _HEAD.unpack_from(body)


def pack_inputs(entries: Sequence[tuple[str, bytes]]) -> bytes:
    """Inline inputs: (upstream name, payload) pairs."""
    parts: list[bytes] = []
    for name, payload in entries:
        raw = name.encode("utf-8", "surrogatepass")
        parts += (_ENTRY.pack(len(raw), len(payload)), raw, payload)
    return b"".join(parts)


def read_inputs(table: memoryview | bytes) -> Iterator[tuple[str, memoryview]]:
    """What :func:`pack_inputs` wrote; payloads are views into ``table``."""
    view, at = memoryview(table), 0
    while at < len(view):
        name_length, payload_length = _ENTRY.unpack_from(view, at)
        at += _ENTRY.size
        name = str(view[at : at + name_length], "utf-8", "surrogatepass")
        at += name_length
        yield name, view[at : at + payload_length]
        at += payload_length


class FailureHead(NamedTuple):
    """What precedes the failure in the outcome of an attempt that did not succeed."""

    retryable: bool
    retry_delay_s: float | None


_FAILURE_HEAD = struct.Struct("<Bd")
FAILURE_HEAD_SIZE = _FAILURE_HEAD.size
_NO_DELAY = -1.0


def pack_failure_head(retryable: bool, retry_delay_s: float | None) -> bytes:
    """See :class:`FailureHead`."""
    return _FAILURE_HEAD.pack(retryable, _NO_DELAY if retry_delay_s is None else retry_delay_s)


def read_failure_head(body: memoryview | bytes) -> FailureHead:
    """See :class:`FailureHead`.

    Raises:
        struct.error: The body is too short to begin with one.
        ValueError: A delay that no timer could wait for.
    """
    retryable, delay = _FAILURE_HEAD.unpack_from(body)
    if delay != _NO_DELAY and not 0.0 <= delay < float("inf"):
        raise ValueError(f"damaged: a delay of {delay} s")
    return FailureHead(bool(retryable), None if delay == _NO_DELAY else delay)
