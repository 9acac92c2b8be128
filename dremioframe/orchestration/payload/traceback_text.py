"""An exception as text, whatever its own code does.

What lives here: the look of a traceback. What may not: where the text goes.
"""

from __future__ import annotations

import os

from .diagnosis import cut, guarded_text
from .guard import class_name, module_name, must_pass, traceback_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_ENGINE = __name__.rpartition(".payload")[0]
_ENGINE_FRAME = f'  File "{os.path.dirname(os.path.dirname(__file__))}'
#: Its line of code, and the marks below that.
_OF_A_FRAME = "    "


def format_error(error: BaseException) -> str:
    """The traceback, with causes and notes, from the user's code on: at most 64 KiB, cycles and all."""
    for write in (_in_full, _frames_only):
        try:
            return write(error)
        except BaseException as own:  # code of the exception's class or metaclass, or of its causes
            if must_pass(own):
                raise
    return _last_line(error)


def _in_full(error: BaseException) -> str:
    from traceback import TracebackException

    formatted = TracebackException(type(error), error, _from_user_code(traceback_of(error)), compact=True)
    return cut("".join(map(cut, formatted.format())))


def _frames_only(error: BaseException) -> str:
    from traceback import format_tb

    frames = "".join(format_tb(_from_user_code(traceback_of(error))))
    return cut(f"Traceback (most recent call last):\n{frames}{_last_line(error)}")


def _last_line(error: BaseException) -> str:
    return f"{type_name(type(error))}: {cut(guarded_text(error))}\n"


def type_name(kind: type) -> str:
    """The qualified name of a class, as tracebacks write it."""
    module, name = module_name(kind), class_name(kind)
    return name if module in {"", "builtins", "__main__"} else f"{module}.{name}"


def _from_user_code(frames: TracebackType | None) -> TracebackType | None:
    """Without the engine's frames at its start, which tell the user nothing."""
    while frames is not None and _is_engine(frames.tb_frame.f_globals.get("__name__")):
        frames = frames.tb_next
    return frames


def _is_engine(module: object) -> bool:
    return type(module) is str and (module == _ENGINE or module.startswith(_ENGINE + "."))


def without_engine(where: str) -> str:
    """A traceback or stack dump without the engine's frames that lead to the user's code, or on from it."""
    kept: list[str] = []
    own = False
    for line in where.splitlines():
        own = line.startswith(_ENGINE_FRAME) or (own and line.startswith(_OF_A_FRAME))
        if not own:
            kept.append(line)
    return "\n".join(kept)
