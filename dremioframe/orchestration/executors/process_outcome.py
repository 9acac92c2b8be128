"""The outcome of a call, as it came out of the pool: decoded when somebody asks.

What lives here: how an outcome's bytes are read. What may not: the pool's loop.
"""

from __future__ import annotations

from .. import calls
from ..interfaces import AttemptStats, OutcomeStatus
from ..payload import codec
from ..payload.diagnosis import DecodeError
from ..payload.failure import Failure
from ..payload.segments import Segment
from ..pool.events import CallEnded


class ProcessOutcome(CallEnded):
    """Implements :class:`~..interfaces.Outcome` as it comes out of the pool, one object per attempt.

    Attributes:
        pins: Kept alive with the outcome: the classes and functions that its value may name. Set by the session.
    """

    __slots__ = ("pins",)

    pins: object

    abandoned = False

    @property
    def stats(self) -> AttemptStats:
        started_ns, cpu_ns, peak_memory_bytes, peak_is_exact, bytes_in = self.measured
        return AttemptStats(
            self.pid,
            started_ns / 1e9,
            self.wall_ns / 1e9,
            cpu_ns / 1e9,
            peak_memory_bytes,
            peak_is_exact,
            bytes_in,
            self.bytes_out,
        )

    @property
    def failure(self) -> Failure | None:
        if self.status == OutcomeStatus.SUCCESS:
            return None
        if (
            self.status > OutcomeStatus.RETRY and self.status != OutcomeStatus.CANCELLED
        ):  # the others are ours to say, with errors of ours
            raise DecodeError(f"no worker ends an attempt with status {self.status}")
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
        payload = self.payload
        return payload.read() if isinstance(payload, Segment) else bytes(payload)

    def load(self) -> object:
        payload = self.payload
        if isinstance(payload, Segment):
            return codec.decode(payload.map(), private=True)
        return codec.decode(payload, private=False)

    def release(self) -> None:
        if self.segment is not None:
            self.segment.close()
