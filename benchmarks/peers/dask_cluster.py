"""Dask distributed: a ``LocalCluster`` of single-threaded worker processes, without dashboard and without spilling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask
from dask.distributed import Client, LocalCluster, wait

from benchmarks import actions

from .interface import Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Pool(Peer):
    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        dask.config.set(
            {"distributed.worker.multiprocessing-method": "forkserver", "distributed.admin.tick.limit": "1h"}
        )
        self.cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            dashboard_address=None,
            silence_logs=50,
        )
        self.client = Client(self.cluster)

    def submit(self, function: Callable[..., object], *arguments: Any) -> Any:
        return self.client.submit(function, *arguments, pure=False)

    def submit_many(self, count: int) -> Sequence[Any]:
        handles: Sequence[Any] = self.client.map(actions.ignore, range(count), pure=False)
        return handles

    def values(self, handles: Sequence[Any]) -> list[Any]:
        return list(self.client.gather(list(handles)))

    def passed(self, handle: Any) -> Any:
        return handle

    def submit_elsewhere(self, function: Callable[..., object], *arguments: Any) -> Any:
        """Left to itself, Dask chooses the same worker, and moves nothing."""
        wait(arguments[-1])
        holders = self.client.who_has(arguments[-1])[arguments[-1].key]
        others = [address for address in self.client.scheduler_info(n_workers=-1)["workers"] if address not in holders]
        return self.client.submit(function, *arguments, pure=False, workers=others[:1] or None)

    def warm(self, *modules: str) -> None:
        # Told to each worker by name: left to itself, Dask piles short tasks on the worker that knows the function.
        self.client.run(actions.wake, modules)
        super().warm(*modules)

    def close(self) -> None:
        self.client.close()
        self.cluster.close()
