"""How often an attempt is repeated, and after what delay.

What lives here: arithmetic. What may not: clocks, random numbers (they come as arguments), and the question *whether*
an error deserves a retry, which is judged where the error happened.
"""

from __future__ import annotations

from math import inf, isfinite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NamedTuple, Self
else:
    from ..light_typing import NamedTuple

#: No delay is longer (about 31 years): adding one to any clock and waiting for the sum stays within every range.
LONGEST_DELAY_S: Final = 1e9


class _Fields(NamedTuple):
    retries: int = 0
    delay_s: float = 1.0
    backoff: float = 2.0
    max_delay_s: float = 300.0
    jitter: float = 0.1


class RetryPolicy(_Fields):
    """When a failed attempt is followed by another.

    Args:
        retries: Further attempts after the first.
        delay_s: Delay in seconds after the first attempt.
        backoff: Factor per further attempt; 1.0 keeps the delay fixed.
        max_delay_s: Ceiling of one delay in seconds, before jitter; may be infinite.
        jitter: Each delay is stretched by a random share in [0, jitter].

    Raises:
        ValueError: A number out of range; the text names it by the option of ``Task`` it comes from.

    Example:
        >>> policy = RetryPolicy(retries=3, delay_s=1.0, jitter=0.0)
        >>> [policy.delay_s_before(attempt_ended, unit_random=0.5) for attempt_ended in (1, 2, 3)]
        [1.0, 2.0, 4.0]
    """

    __slots__ = ()

    def __new__(
        cls,
        retries: int = 0,
        delay_s: float = 1.0,
        backoff: float = 2.0,
        max_delay_s: float = 300.0,
        jitter: float = 0.1,
    ) -> Self:
        if type(retries) is not int or retries < 0:
            raise ValueError(f"retries must be a whole number, 0 or more, not {retries!r}")
        _require_number("retry_delay", delay_s)
        _require_number("retry_backoff", backoff, may_be_zero=False)
        if max_delay_s != inf:  # no ceiling
            _require_number("retry_max_delay", max_delay_s)
        _require_number("retry_jitter", jitter)
        return super().__new__(cls, retries, delay_s, backoff, max_delay_s, jitter)

    def delay_s_before(self, attempt_ended: int, unit_random: float) -> float:
        """Seconds between the end of attempt ``attempt_ended`` (1 is the first) and the start of the next.

        Args:
            attempt_ended: Number of the attempt that ended.
            unit_random: A random number in [0, 1).
        """
        if not self.delay_s:
            return 0.0  # before 0 * infinity can make a NaN of it
        try:
            grown_s = self.delay_s * float(self.backoff) ** (attempt_ended - 1)
        except OverflowError:
            grown_s = self.max_delay_s
        return clamp_delay_s(min(grown_s, self.max_delay_s) * (1.0 + self.jitter * unit_random))


def clamp_delay_s(delay_s: float) -> float:
    """``delay_s`` brought into [0, LONGEST_DELAY_S]; a NaN counts as 0.

    Example:
        >>> clamp_delay_s(float("-inf")), clamp_delay_s(2.5), clamp_delay_s(float("nan"))
        (0.0, 2.5, 0.0)
    """
    return min(delay_s, LONGEST_DELAY_S) if delay_s > 0.0 else 0.0


def _require_number(option: str, value: float, *, may_be_zero: bool = True) -> None:
    is_number = type(value) is int or isinstance(value, float)  # a bool is no number here
    if not is_number or not isfinite(value) or value < 0 or not (value or may_be_zero):
        raise ValueError(
            f"{option} must be a finite number, {'0 or more' if may_be_zero else 'above 0'}, not {value!r}"
        )


#: The policy of most tasks, shared.
NO_RETRY: Final = RetryPolicy()
