"""pebble: the pool of single machines that has time-outs; here without one, which is faster for it."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any

from pebble import ProcessPool

from .interface import Peer

if TYPE_CHECKING:
    from collections.abc import Callable


class Pool(Peer):
    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.pool = ProcessPool(max_workers=workers, context=multiprocessing.get_context("forkserver"))

    def submit(self, function: Callable[..., object], *arguments: Any) -> Any:
        return self.pool.schedule(function, args=arguments)

    def close(self) -> None:
        self.pool.close()
        self.pool.join()
