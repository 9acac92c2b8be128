"""A real second process that plays the worker, and the owner's handle of it.

Used by the tests and, by name, by the scripts that they run. Deliberately not the pool: code and values travel exactly
as they do there (`pack_code`, `encode`, a side channel for tokens), over two pipes.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
from typing import Any, Self

from dremioframe.orchestration.payload import codec, references
from dremioframe.orchestration.payload.failure import Failure

_LENGTH = struct.Struct("<Q")


def _send(stream: Any, *message: object) -> None:
    data = pickle.dumps(message)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _receive(stream: Any) -> tuple[Any, ...]:
    (length,) = _LENGTH.unpack(stream.read(_LENGTH.size))
    return pickle.loads(stream.read(length))  # type: ignore[no-any-return]


class Worker:
    """One worker process. `worker(function, *args)` runs there what `function(*args)` would run here."""

    def __init__(self, path: list[str] | None = None) -> None:
        here = os.path.dirname(os.path.abspath(__file__))
        root = os.path.dirname(os.path.dirname(here))
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import sys; sys.path[:0] = {[here, root]!r}; import second_process as s; s.serve()",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.fetched: list[bytes] = []
        _send(self._process.stdin, "path", sys.path if path is None else path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(30) == 0

    def begin_run(self) -> None:
        _send(self._process.stdin, "begin_run")

    def __call__(self, function: Any, *args: Any) -> Any:
        return codec.decode(self.raw(function, *[codec.encode(arg).to_bytes() for arg in args]), private=False)

    def raw(self, function: Any, *args: bytes) -> bytes:
        """Bytes in, bytes out: how one task's result becomes another's input. Raises what a failed attempt means."""
        _send(self._process.stdin, "call", references.pack_code(function), args)
        while True:
            kind, data = _receive(self._process.stdout)
            if kind == "fetch":
                self.fetched.append(data)
                _send(self._process.stdin, references.blob_for_token(data))
            elif kind == "result":
                return data  # type: ignore[no-any-return]
            else:
                raise Failure.from_bytes(data).to_error("task", 1)


# --- in the worker ----------------------------------------------------------------------------------------------------


def serve() -> None:
    inward, outward = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what code under test prints must not end up among the messages

    def fetch(token: bytes) -> bytes:
        _send(outward, "fetch", token)
        return _receive(inward)[0]  # type: ignore[no-any-return]

    references.connect(fetch)
    code: dict[bytes, Any] = {}
    while inward.peek(1):
        match _receive(inward):
            case ("path", path):
                sys.path[:] = path
            case ("begin_run",):
                references.begin_run()
                code.clear()  # as the pool's runner does
            case ("call", blob, args):
                _send(outward, *_outcome(code, blob, args))


def _outcome(code: dict[bytes, Any], blob: bytes, args: tuple[bytes, ...]) -> tuple[str, bytes]:
    try:
        digest = references.digest(blob)
        if digest not in code:
            code[digest] = references.load_code(blob)
        value = code[digest](*[codec.decode(arg, private=False) for arg in args])
    except BaseException as error:
        return "failure", Failure.capture(error).to_bytes()
    try:
        return "result", codec.encode(value).to_bytes()
    except codec.EncodeError as error:
        return "failure", Failure.payload("result_pickle", f"result{error.path}", error.reason).to_bytes()
