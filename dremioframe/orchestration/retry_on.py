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
        return (isinstance(error, retry_on) if isinstance(retry_on, type | tuple) else bool(retry_on(error))), ""
    except BaseException as own:  # noqa: BLE001 - it runs where user code ran, and may do what user code may do
        return False, f"not retried: retry_on itself raised {type(own).__name__}: {own}"
