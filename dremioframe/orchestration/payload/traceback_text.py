"""An exception as text, whatever its own code does.

What lives here: the look of a traceback. What may not: where the text goes.
"""

from __future__ import annotations

from .diagnosis import cut, guarded_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_ENGINE = __name__.rpartition(".payload")[0]


def format_error(error: BaseException) -> str:
    """The traceback, with causes and notes, from the user's code on: at most 64 KiB, cycles and all."""
    from traceback import TracebackException

    frames = _from_user_code(error.__traceback__)
    try:
        formatted = TracebackException(type(error), error, frames, compact=True)
        return cut("".join(map(cut, formatted.format())))
    except (Exception, SystemExit):  # noqa: BLE001 - code of the exception's class or metaclass; its name is left
        return f"{type_name(type(error))}: {cut(guarded_text(error))}\n"


def type_name(kind: type) -> str:
    """The qualified name of a class, as tracebacks write it."""
    module = guarded_text(kind.__module__)
    return kind.__qualname__ if module in {"builtins", "__main__"} else f"{module}.{kind.__qualname__}"


def _from_user_code(frames: TracebackType | None) -> TracebackType | None:
    """Without the engine's frames at its start, which tell the user nothing."""
    while frames is not None and _is_engine(frames.tb_frame.f_globals.get("__name__")):
        frames = frames.tb_next
    return frames


def _is_engine(module: object) -> bool:
    return isinstance(module, str) and (module == _ENGINE or module.startswith(_ENGINE + "."))
