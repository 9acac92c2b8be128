"""How a simulated attempt behaves: the words of a fault script.

What lives here: plain values. What may not: time passing.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, Literal, NamedTuple

from ..errors import DefinitionError, RetryTask, SkipTask

#: Longer than any run.
FOREVER = float("inf")

Kind = Literal["call", "return", "raise", "lose", "never_start", "exceed_memory"]


class Behaviour(NamedTuple):
    """What one attempt does.

    Attributes:
        kind: ``"call"`` runs the task's own action; the others do not.
        after_s: Virtual seconds until it does it.
        value: What it returns.
        error: What it raises.
    """

    kind: Kind
    after_s: float = 0.0
    value: object = None
    error: BaseException | None = None


def fault_of(behaviour: Behaviour) -> str:
    """Why no attempt can behave like this; empty if one can."""
    after_s: Any = behaviour.after_s
    error: Any = behaviour.error
    if not isinstance(after_s, Real) or not float(after_s) >= 0:  # so is no NaN
        return f"after_s must be a number of seconds, 0 or more, not {after_s!r:.200}"
    if behaviour.kind == "raise" and not isinstance(error, BaseException):
        return f"what it raises must be an exception, as in fail(ValueError('boom')), not {error!r:.200}"
    return ""


def _checked(kind: Kind, after_s: float = 0.0, value: object = None, error: BaseException | None = None) -> Behaviour:
    behaviour = Behaviour(kind, after_s, value, error)
    if fault := fault_of(behaviour):
        raise DefinitionError(f"a simulated attempt: {fault}")
    return behaviour


def call(after_s: float = 0.0) -> Behaviour:
    """Run the task's own action; it takes ``after_s`` virtual seconds. The default."""
    return _checked("call", after_s)


def succeed(value: object = None, after_s: float = 0.0) -> Behaviour:
    """Return ``value`` without running the action."""
    return _checked("return", after_s, value=value)


def fail(error: BaseException | None = None, after_s: float = 0.0) -> Behaviour:
    """Raise ``error`` (a RuntimeError by default); the task's ``retry_on`` is asked as usual."""
    return _checked("raise", after_s, error=RuntimeError("simulated failure") if error is None else error)


def skip(reason: str = "", after_s: float = 0.0) -> Behaviour:
    """Raise ``SkipTask``."""
    return _checked("raise", after_s, error=SkipTask(reason))


def retry(delay_s: float | None = None, after_s: float = 0.0) -> Behaviour:
    """Raise ``RetryTask``."""
    return _checked("raise", after_s, error=RetryTask(delay_s))


def hang() -> Behaviour:
    """Run until stopped; without a ``timeout`` or a cancel that is for ever."""
    return Behaviour("return", FOREVER)


def lose_worker(after_s: float = 0.0) -> Behaviour:
    """Die with its worker, as by SIGKILL."""
    return _checked("lose", after_s)


def exceed_memory(after_s: float = 0.0) -> Behaviour:
    """Be over the task's ``memory_limit`` after so long, and run until stopped. Without a limit it is :func:`hang`."""
    return _checked("exceed_memory", after_s)


def never_start(after_s: float = 0.0) -> Behaviour:
    """Be taken back before it began: dispatched again at no cost. The next behaviour is for the same attempt."""
    return _checked("never_start", after_s)
