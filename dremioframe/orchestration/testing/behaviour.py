"""How a simulated attempt behaves: the words of a fault script.

What lives here: plain values. What may not: time passing.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from ..errors import RetryTask, SkipTask

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


def call(after_s: float = 0.0) -> Behaviour:
    """Run the task's own action; it takes ``after_s`` virtual seconds. The default."""
    return Behaviour("call", after_s)


def succeed(value: object = None, after_s: float = 0.0) -> Behaviour:
    """Return ``value`` without running the action."""
    return Behaviour("return", after_s, value=value)


def fail(error: BaseException | None = None, after_s: float = 0.0) -> Behaviour:
    """Raise ``error`` (a RuntimeError by default); the task's ``retry_on`` is asked as usual."""
    return Behaviour("raise", after_s, error=RuntimeError("simulated failure") if error is None else error)


def skip(reason: str = "", after_s: float = 0.0) -> Behaviour:
    """Raise ``SkipTask``."""
    return Behaviour("raise", after_s, error=SkipTask(reason))


def retry(delay_s: float | None = None, after_s: float = 0.0) -> Behaviour:
    """Raise ``RetryTask``."""
    return Behaviour("raise", after_s, error=RetryTask(delay_s))


def hang() -> Behaviour:
    """Run until stopped; without a ``timeout`` or a cancel that is for ever."""
    return Behaviour("return", FOREVER)


def lose_worker(after_s: float = 0.0) -> Behaviour:
    """Die with its worker, as by SIGKILL."""
    return Behaviour("lose", after_s)


def exceed_memory(after_s: float = 0.0) -> Behaviour:
    """Be over the task's ``memory_limit`` after so long, and run until stopped. Without a limit it is :func:`hang`."""
    return Behaviour("exceed_memory", after_s)


def never_start(after_s: float = 0.0) -> Behaviour:
    """Be taken back before it began: dispatched again at no cost. The next behaviour is for the same attempt."""
    return Behaviour("never_start", after_s)
