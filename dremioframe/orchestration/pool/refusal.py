"""Why a process of the pool does not start, in words: the traceback, and what it comes to as the last line.

What lives here: that text, written in the zygote or a worker while the exception is handled. What may not: sending it.
"""

from __future__ import annotations

from ..payload.guard import class_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

_TEXT_LIMIT = 60_000
_LINE_LIMIT = 1_000


class Refusal(Exception):
    """Says what cannot be done; its cause, if it has one, says why."""


def describe(error: BaseException) -> str:
    """Type and message, on one line.

    Example:
        >>> describe(ZeroDivisionError("division by zero"))
        'ZeroDivisionError: division by zero'
    """
    try:
        message = " ".join(str(error).split())[:_LINE_LIMIT]
    except BaseException:  # noqa: BLE001 - the user's own exception; its type has to do
        message = "its message cannot be had"
    name = class_name(type(error))
    return f"{name}: {message}" if message else name


def story(error: BaseException, frame: FrameType | None = None) -> bytes:
    """What to send: the traceback of what happened, then the last line.

    Args:
        error: What happened; a :class:`Refusal` shows its cause.
        frame: Nothing has happened: what should have ended is still here.
    """
    import traceback

    refused = isinstance(error, Refusal)
    happened = error.__cause__ if refused else error
    lines = traceback.format_stack(frame) if frame is not None else []
    lines += traceback.format_exception(happened) if happened is not None else []
    text = "".join(lines)[-_TEXT_LIMIT:]
    return f"{text}\n{error if refused else describe(error)}".strip().encode("utf-8", "backslashreplace")
