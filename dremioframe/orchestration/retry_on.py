"""Whether an error deserves another attempt, as the user's ``retry_on`` sees it.

What lives here: one question and its answer, asked by everything that runs attempts. What may not: counts and delays.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .interfaces import RetryOn


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
        from .payload.diagnosis import describe
        from .payload.guard import must_pass

        if must_pass(own):
            raise
        return False, f"not retried: retry_on itself raised {describe(own)}"
