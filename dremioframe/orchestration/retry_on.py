"""Whether an error deserves another attempt, as the user's ``retry_on`` sees it.

What lives here: one question and its answer, asked by everything that runs attempts. What may not: counts and delays.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .interfaces import RetryOn


def why_none(retry_on: RetryOn, error_type: str, *, asked: bool) -> str:
    """Why no other attempt follows such an error, in words.

    Args:
        retry_on: The task's.
        error_type: Qualified name of the error's class.
        asked: False if ``retry_on`` has no say in errors of this kind.

    Example::

        >>> why_none(OSError, "KeyError", asked=True)
        'KeyError is not in its retry_on'
    """
    if not asked or retry_on is Exception:  # that is everything but exits and what the task itself forbids
        return f"its error, {error_type}, is not to be retried"
    if isinstance(retry_on, type | tuple):
        return f"{error_type} is not in its retry_on"
    return f"its retry_on wants no other attempt after {error_type}"


def wants_retry(retry_on: RetryOn, error: BaseException) -> tuple[bool, str]:
    """Whether ``retry_on`` wants another attempt after ``error``, and a note if it could not say.

    Example::

        >>> wants_retry((OSError, KeyError), KeyError("x"))
        (True, '')
    """
    try:
        if isinstance(retry_on, type | tuple):
            return issubclass(type(error), retry_on), ""  # as `except` does: not by a __class__ of the user's
        return bool(retry_on(error)), ""
    except BaseException as own:  # it runs where user code ran, and may do what user code may do
        from . import failpoints
        from .payload.diagnosis import describe
        from .payload.guard import must_pass

        if must_pass(own) or (failpoints.armed and failpoints.hit("retry_on.raises")):
            raise
        return False, f"not retried: retry_on itself raised {describe(own)}"
