"""What comes out of an object of the user's that was only to be looked at: its own doing, or a stop that must pass.

Pickling, showing or comparing an object runs code of the user's, which may raise anything, ``SystemExit`` and the
user's own ``BaseException`` included. All of that is told as a failure of the object. Only two things are not the
object's doing, although they may arrive while it is looked at:

* in a worker, once SIGTERM has come: ``TaskCancelled``, or whatever the object makes of it but an ``Exception``;
* anywhere else: ``KeyboardInterrupt`` of a real Ctrl-C.

What lives here: that distinction, and ways to look at an exception that run none of its own code. What may not: what is
made of the failure. Whoever catches ``BaseException`` around code of the user's asks :func:`must_pass` first.
"""

from __future__ import annotations

from .. import failpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, TracebackType
    from typing import Any

_is_stopping: Callable[[], bool] | None = None

# C's own accessors: a property or a __getattribute__ of the same name in a class of the user's is not run.
_slots: dict[str, Any] = dict(vars(BaseException))
cause_of: Callable[[BaseException], BaseException | None] = _slots["__cause__"].__get__
context_of: Callable[[BaseException], BaseException | None] = _slots["__context__"].__get__
hides_context: Callable[[BaseException], bool] = _slots["__suppress_context__"].__get__
traceback_of: Callable[[BaseException], TracebackType | None] = _slots["__traceback__"].__get__
set_cause: Callable[[BaseException, BaseException | None], None] = _slots["__cause__"].__set__
set_context: Callable[[BaseException, BaseException | None], None] = _slots["__context__"].__set__
set_hides_context: Callable[[BaseException, bool], None] = _slots["__suppress_context__"].__set__
_name_of: Callable[[type], str] = vars(type)["__qualname__"].__get__
_module_of: Callable[[type], object] = vars(type)["__module__"].__get__


def connect(is_stopping: Callable[[], bool]) -> None:
    """Make this process a worker.

    Args:
        is_stopping: Whether SIGTERM has come.
    """
    global _is_stopping  # noqa: PLW0603 - a process becomes a worker once
    _is_stopping = is_stopping


def must_pass(error: BaseException) -> bool:
    """Whether an exception out of an object of the user's stops this process or attempt, and is no fault of the object.

    Example::

        try:
            text = str(value)
        except BaseException as error:
            if must_pass(error):
                raise
            text = "?"
    """
    kind = type(error)
    if issubclass(kind, Exception):
        return False
    if _is_stopping is not None:
        return _is_stopping()
    if failpoints.armed and failpoints.hit("guard.ctrl_c"):
        return False
    return kind is KeyboardInterrupt and _is_ctrl_c(traceback_of(error))


def class_name(kind: type) -> str:
    """The qualified name of a class, without its module; nothing of its metaclass is run."""
    return str.__str__(_name_of(kind))  # it may be a subclass of str, whose methods may be anything


def module_name(kind: type) -> str:
    """The name of a class's module, or nothing if it has none that is text."""
    try:
        module = _module_of(kind)
    except AttributeError:
        return ""
    return str.__str__(module) if issubclass(type(module), str) else ""


def is_exception(value: object) -> bool:
    """``isinstance(value, BaseException)``, without asking the value for its ``__class__``."""
    return issubclass(type(value), BaseException)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


def _is_ctrl_c(trace: TracebackType | None) -> bool:
    """Whether a KeyboardInterrupt with this traceback came out of SIGINT's handler.

    Python's own handler raises it between any two instructions, but never at a ``raise``; one that is written in
    Python has a frame in the traceback. Where neither can be seen it is let through: nobody's Ctrl-C may get lost.
    """
    import signal
    import threading

    if trace is None or threading.get_ident() != threading.main_thread().ident:
        return False
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        return not _ends_at_a_raise(trace)
    code = _code_of(handler)
    return code is None or _leads_through(trace, code)


def _ends_at_a_raise(trace: TracebackType) -> bool:
    from opcode import opmap

    while trace.tb_next is not None:
        trace = trace.tb_next
    instruction = trace.tb_frame.f_code.co_code[trace.tb_lasti]
    return instruction == opmap["RAISE_VARARGS"]


def _code_of(handler: Any) -> CodeType | None:
    from functools import partial
    from types import FunctionType, MethodType

    while type(handler) in {partial, MethodType}:
        handler = handler.func if type(handler) is partial else handler.__func__
    return handler.__code__ if type(handler) is FunctionType else None


def _leads_through(trace: TracebackType | None, code: CodeType) -> bool:
    while trace is not None:
        if trace.tb_frame.f_code is code:
            return True
        trace = trace.tb_next
    return False
