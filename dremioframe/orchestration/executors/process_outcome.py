"""The outcome of a call, as it came out of the pool: decoded when somebody asks.

What lives here: how an outcome's bytes are read. What may not: the pool's loop.
"""

from __future__ import annotations

from .. import calls
from ..interfaces import AttemptStats, OutcomeStatus
from ..payload import codec
from ..payload.failure import Failure
from ..payload.segments import Segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..pool.events import CallEnded


class ProcessOutcome:
    """Implements :class:`~..interfaces.Outcome` over a :class:`~..pool.supervisor.CallEnded`."""

    __slots__ = ("_ended", "_pins", "status")

    abandoned = False

    def __init__(self, ended: CallEnded, pins: object) -> None:
        """
        Args:
            pins: Kept alive with the outcome: the classes and functions that its value may name.
        """
        self._ended = ended
        self._pins = pins
        self.status = ended.status

    @property
    def payload(self) -> bytes | memoryview | Segment:
        """The encoded value, where the attempt succeeded; the failure's bytes, where it did not."""
        return self._ended.payload

    @property
    def stats(self) -> AttemptStats:
        ended = self._ended
        return AttemptStats(
            ended.pid,
            ended.started_at_s,
            ended.wall_s,
            ended.cpu_s,
            ended.peak_memory_bytes,
            ended.peak_is_exact,
            ended.bytes_in,
            ended.bytes_out,
        )

    @property
    def failure(self) -> Failure | None:
        if self.status == OutcomeStatus.SUCCESS:
            return None
        return Failure.from_bytes(self._failure_body()[calls.FAILURE_HEAD_SIZE :])

    @property
    def retryable(self) -> bool:
        return self.status != OutcomeStatus.SUCCESS and calls.read_failure_head(self._failure_body()).retryable

    @property
    def retry_delay_s(self) -> float | None:
        if self.status == OutcomeStatus.SUCCESS:
            return None
        return calls.read_failure_head(self._failure_body()).retry_delay_s

    def _failure_body(self) -> bytes:
        payload = self._ended.payload
        return payload.read() if isinstance(payload, Segment) else bytes(payload)

    def load(self) -> object:
        payload = self._ended.payload
        if isinstance(payload, Segment):
            return codec.decode(payload.map(), private=True)
        return codec.decode(payload, private=False)

    def release(self) -> None:
        if isinstance(self._ended.payload, Segment):
            self._ended.payload.close()
