"""The outcome of an attempt that ran in this process, or never ran.

What lives here: :class:`LocalOutcome`. What may not: the call of user code (``user_code``) and the transport to
a worker (``worker_attempt``).
"""

from __future__ import annotations

from .payload.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .interfaces import AttemptStats
    from .user_code import Ended


class LocalOutcome:
    """Outcome of an attempt that ran in this process, or that never ran: the value is the object itself."""

    __slots__ = ("_value", "abandoned", "failure", "retry_delay_s", "retryable", "stats", "status")

    def __init__(
        self,
        status: int,
        value: object = None,
        *,
        failure: Failure | None = None,
        retryable: bool = False,
        retry_delay_s: float | None = None,
        stats: AttemptStats | None = None,
        abandoned: bool = False,
    ) -> None:
        self.status = status
        self._value = value
        self.failure = failure
        self.retryable = retryable
        self.retry_delay_s = retry_delay_s
        self.stats = stats
        self.abandoned = abandoned

    @classmethod
    def of(cls, ended: Ended, stats: AttemptStats) -> LocalOutcome:
        """The outcome of user code that ran here."""
        failure = None if ended.error is None else Failure.local(ended.error, note=ended.note)
        return cls(
            ended.status,
            ended.value,
            failure=failure,
            retryable=ended.retryable,
            retry_delay_s=ended.retry_delay_s,
            stats=stats,
        )

    def load(self) -> object:
        return self._value

    def release(self) -> None:
        self._value = None
