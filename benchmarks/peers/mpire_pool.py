"""mpire, one ``apply_async`` per task (its own strength is the chunked map)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpire import WorkerPool

from .interface import Peer

if TYPE_CHECKING:
    from collections.abc import Callable


class Pool(Peer):
    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.pool = WorkerPool(workers, start_method="forkserver", keep_alive=True)

    def submit(self, function: Callable[..., object], *arguments: Any) -> Any:
        return self.pool.apply_async(function, arguments)

    def value(self, handle: Any) -> Any:
        return handle.get()

    def close(self) -> None:
        self.pool.stop_and_join()
        self.pool.terminate()
