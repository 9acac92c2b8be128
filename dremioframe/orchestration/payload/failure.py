"""A failed attempt as data: what was raised, where, in words that survive any journey.

What lives here: the one form in which errors travel, and its way back to an exception. What may not: what a failure
means for the run, and how a traceback is written (:mod:`.traceback_text`).

Three kinds:

* ``error``: user code raised. Delivered as :class:`~..errors.TaskError` whose cause is the exception, or a stand-in.
* ``payload``: something could not be pickled or unpickled. Delivered as :class:`~..errors.PayloadError`.
* ``own``: an error of the engine itself. Delivered as it is.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812 - it is a class

from .. import failpoints
from ..errors import NestedRunError, OrchestrationError, PayloadError, RemoteError, TaskError
from . import exceptions, portable
from .diagnosis import DecodeError, cut, guarded_text
from .guard import must_pass, traceback_of
from .traceback_text import format_error, type_name, without_engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any

_KINDS = ("error", "payload", "own")
_HEAD = Struct("<B7Q")
#: An error that was never raised has none in its traceback.
_A_FRAME = '  File "'
_PLAIN = (str, int, type(None))
#: Not their subclasses: what a class of the user's does is the user's.
_DELIVERED_BARE: tuple[type[BaseException], ...] = (PayloadError, NestedRunError)

_WHAT_FAILED = {
    "code_pickle": "its code cannot be sent to a worker",
    "code_unpickle": "its code cannot be loaded in the worker",
    "args_pickle": "an argument cannot be sent to a worker",
    "args_unpickle": "an argument cannot be loaded in the worker",
    "context_pickle": "a value of the run's context cannot be sent to a worker",
    "context_unpickle": "a value of its context cannot be loaded",
    "result_pickle": "its result cannot be sent back",
    "result_unpickle": "its result cannot be loaded",
    "code_transfer": "its code cannot be handed to a worker",
    "args_transfer": "its arguments cannot be handed to a worker",
    "context_transfer": "a value of the run's context cannot be handed to a worker",
    "result_transfer": "its result cannot be handed over",
}
_WHAT_TO_DO = {
    "pickle": "pass what the object can be made from, or use executor='thread'",
    "unpickle": "the module that defines the object must be importable, in the same version, where it is read",
    "transfer": "free memory, disk space or descriptors (ulimit -n), or hand over less",
}


class Failure:
    """Why an attempt failed.

    Attributes:
        kind: ``"error"``, ``"payload"`` or ``"own"``; see above.
        error_type: Qualified name of the exception's class.
        message: Its text; for ``payload`` the reason.
        traceback_text: The traceback from the user's code on, as text.
        stage: For ``payload``: one of :attr:`~..errors.PayloadError.stage`.
        path: For ``payload``: where in the value the bad object sits.
        note: Something the user should know besides, or empty.
    """

    __slots__ = (
        "_error", "_pickled", "error_type", "kind", "message", "note", "path", "stage", "traceback_text",
    )  # fmt: skip

    def __init__(
        self,
        kind: str,
        error_type: str,
        message: str,
        traceback_text: str = "",
        *,
        stage: str = "",
        path: str = "",
        note: str = "",
        error: BaseException | None = None,
        pickled: bytes = b"",
    ) -> None:
        self.kind = kind
        self.error_type = error_type
        self.message = message
        self.traceback_text = traceback_text
        self.stage = stage
        self.path = path
        self.note = note
        self._error = error
        self._pickled = pickled

    # --- how it comes about -------------------------------------------------------------------------------------------

    @classmethod
    def local(cls, error: BaseException, *, note: str = "") -> Failure:
        """A failure that stays in this process: it keeps the exception itself."""
        bare = type(error) in _DELIVERED_BARE and _is_sound(error)
        if bare and type(error) is PayloadError and error.task is None:
            return cls.payload(error.stage, error.path, guarded_text(error), note=note)
        return cls("own" if bare else "error", *_in_words(error), note=note, error=error)

    @classmethod
    def capture(cls, error: BaseException, *, note: str = "") -> Failure:
        """A failure that will travel: it keeps the exception's pickle, if there is one that can be read back."""
        failure = cls.local(error, note=note)
        failure._pickled, failure._error = failure._pickle(), None  # noqa: SLF001 - its own class
        return failure

    @classmethod
    def own(cls, error: OrchestrationError) -> Failure:
        """The engine's own error, delivered as it is."""
        return cls("own", type(error).__qualname__, str(error), getattr(error, "stack", ""), error=error)

    @classmethod
    def payload(cls, stage: str, path: str, reason: str, *, note: str = "") -> Failure:
        """Something could not be pickled or unpickled."""
        return cls("payload", "PayloadError", cut(reason), stage=stage, path=path, note=note)

    # --- its way back -------------------------------------------------------------------------------------------------

    def describe(self, task: str, attempt: int | None) -> str:
        """What the error of :meth:`to_error` says, without making it: nothing of the user's is unpickled."""
        if self.kind == "own":
            return self.message
        if self.kind == "payload":
            return str(self._payload_error(task, attempt))
        said = f"{self.error_type}: {self.message}" if self.message else self.error_type
        return f"task {task!r}, attempt {attempt}: {said}"

    def drop_frames(self) -> None:
        """Let go of what the frames of a live exception hold: another attempt follows, and nobody will look at them."""
        trace = None if self._error is None else traceback_of(self._error)
        while trace is not None:
            if not _may_go_on(trace.tb_frame):
                _clear(trace.tb_frame)
            trace = trace.tb_next

    def to_error(self, task: str, attempt: int | None) -> OrchestrationError:
        """The exception to report, naming task and attempt.

        Each call gives a fresh one. Only an exception that was raised in this process, or its cause, is itself.
        """
        if self.kind == "payload":
            error: OrchestrationError = self._payload_error(task, attempt)
        else:
            error = self._own_error() or self._task_error(task, attempt)
        if error.task is None:
            error.task, error.attempt = task, attempt
        notes: list[str] = getattr(error, "__notes__", [])
        if self.note and self.note not in notes:
            error.add_note(self.note)
        if not notes:  # else it is an error of the engine that has been here already, and perhaps travelled since
            self._show_where(error)
        return error

    def _show_where(self, error: OrchestrationError) -> None:
        """Whoever prints an error sees its notes, but neither attributes nor the frames of another process."""
        cause = error.__cause__
        seen = cause is not None and traceback_of(cause) is not None
        if not seen and _A_FRAME in self.traceback_text:
            error.add_note(without_engine(self.traceback_text))

    def _payload_error(self, task: str, attempt: int | None) -> PayloadError:
        what = _WHAT_FAILED.get(self.stage, "a value cannot be moved between processes")
        where = f" at {self.path}" if self.path else ""
        hint = _WHAT_TO_DO.get(self.stage.rpartition("_")[2], "")
        text = f"task {task!r}, attempt {attempt}: {what}: {self.message}{where}" + (f"; {hint}" if hint else "")
        return PayloadError(text, task=task, attempt=attempt, stage=self.stage, path=self.path)

    def _own_error(self) -> OrchestrationError | None:
        if self.kind != "own":
            return None
        error = self._original()
        if not isinstance(error, OrchestrationError):
            return None
        return error.__copy__() if error is self._error and traceback_of(error) is None else error

    def _task_error(self, task: str, attempt: int | None) -> TaskError:
        error = TaskError(
            self.describe(task, attempt),
            task=task,
            attempt=attempt,
            error_type=self.error_type,
            traceback_text=self.traceback_text,
        )
        error.__cause__ = self._original()
        if error.__cause__ is None:
            error.__cause__ = RemoteError(self.message, self.error_type, self.traceback_text)
        return error

    def _original(self) -> BaseException | None:
        if self._error is not None or not self._pickled:
            return self._error
        try:
            return exceptions.from_bytes(self._pickled)
        except DecodeError:
            return None  # its code is not here; the stand-in says what can be said

    # --- travelling ---------------------------------------------------------------------------------------------------

    def _pickle(self) -> bytes:
        if self._error is None:
            return self._pickled
        if failpoints.armed and failpoints.hit("failure.original"):
            return b""
        try:
            return exceptions.to_bytes(self._error)
        except BaseException as own:  # code of its own, run in a way that nobody has thought of: a stand-in will do
            if must_pass(own) or (failpoints.armed and failpoints.hit("exceptions.stand_in")):
                raise
            return b""

    def to_bytes(self) -> bytes:
        """The failure as bytes; no pickle but the exception's own."""
        texts = (self.error_type, self.message, self.traceback_text, self.stage, self.path, self.note)
        fields = [text.encode("utf-8", "surrogatepass") for text in texts]
        fields.append(self._pickle())
        return _HEAD.pack(_KINDS.index(self.kind), *map(len, fields)) + b"".join(fields)

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> Failure:
        """What :meth:`to_bytes` gave.

        Raises:
            DecodeError: It is something else.
        """
        view = memoryview(data)
        try:
            kind, *lengths = _HEAD.unpack_from(view)
            *texts, pickled = _cut_up(view, lengths)
            error_type, message, trace, stage, path, note = (str(text, "utf-8", "surrogatepass") for text in texts)
            return cls(
                _KINDS[kind], error_type, message, trace, stage=stage, path=path, note=note, pickled=bytes(pickled)
            )
        except (ValueError, IndexError, OverflowError, StructError) as error:
            raise DecodeError(f"damaged: no failure reads like this: {error}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle is for whoever reads it, not for a worker or its owner: in there, names for code mean nothing.
        original = self._original()
        if original is None:
            return Failure.from_bytes, (self.to_bytes(),)
        twin = Failure(
            self.kind, self.error_type, self.message, self.traceback_text,
            stage=self.stage, path=self.path, note=self.note, pickled=portable.to_bytes(original),
        )  # fmt: skip
        return Failure.from_bytes, (twin.to_bytes(),)


def _cut_up(view: memoryview, lengths: list[int]) -> Iterator[memoryview]:
    if _HEAD.size + sum(lengths) != view.nbytes:
        raise ValueError("its lengths do not add up")
    position = _HEAD.size
    for length in lengths:
        yield view[position : position + length]
        position += length


def _may_go_on(frame: FrameType) -> bool:
    """Whether it is of a generator or coroutine that has stopped at a ``yield`` since, which clearing would close."""
    from opcode import opmap

    return frame.f_code.co_code[frame.f_lasti] == opmap["YIELD_VALUE"]


def _clear(frame: FrameType) -> None:
    try:
        frame.clear()
    except RuntimeError:
        pass  # it runs again, or still; since Python 3.13 also if it may go on


def _is_sound(error: BaseException) -> bool:
    """Whether an error of the engine still is as the engine makes it, for user code may have changed it."""
    fields = vars(error)
    if type(fields) is not dict or type(notes := fields.get("__notes__", [])) is not list:
        return False
    values = [value for name, value in fields.items() if name != "__notes__"]
    return all(type(each) in _PLAIN for each in (*error.args, *notes, *values))


def _in_words(error: BaseException) -> tuple[str, str, str]:
    return type_name(type(error)), cut(guarded_text(error)), format_error(error)
