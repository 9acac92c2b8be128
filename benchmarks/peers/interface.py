"""What a workload asks of a peer, and the answers most peers share.

A peer of the kind of ``concurrent.futures`` gives a handle for each call and cannot take a handle as an argument:
what is passed on is the value, by way of the coordinator. A peer that resolves handles in its workers (Dask, Ray,
Prefect) overrides ``passed`` and is spared that way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks import actions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

T = TypeVar("T")


class Peer:
    """A warm pool of worker processes, as a context manager."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def submit(self, function: Callable[..., object], *arguments: Any) -> Any:
        """Start one call; returns a handle."""
        raise NotImplementedError

    def submit_elsewhere(self, function: Callable[..., object], *arguments: Any) -> Any:
        """As ``submit``, but in another process than the one that made the last argument, for peers that can say so."""
        raise NotImplementedError

    def submit_many(self, count: int) -> Sequence[Any]:
        """Start so many calls of a function that does nothing, one task each, the fastest way the peer has for that."""
        return [self.submit(actions.nothing) for _ in range(count)]

    def value(self, handle: Any) -> Any:
        """Wait for one result and read it."""
        return handle.result()

    def values(self, handles: Sequence[Any]) -> list[Any]:
        """Wait for results and read them all."""
        return [self.value(handle) for handle in handles]

    def passed(self, handle: Any) -> Any:
        """What stands for a result among the arguments of the next call."""
        return self.value(handle)

    def within(self, job: Callable[[], T]) -> T:
        """Run a measurement; for peers whose calls only work in a place of their own."""
        return job()

    def close(self) -> None:
        """End every process of the peer."""

    def warm(self, *modules: str) -> None:
        """Start all workers and let them import what the measurement needs."""
        self.values([self.submit(actions.wake, modules) for _ in range(4 * self.workers)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
