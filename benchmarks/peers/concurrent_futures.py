"""``concurrent.futures.ProcessPoolExecutor`` with a fork server."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

from .interface import Peer

if TYPE_CHECKING:
    from collections.abc import Callable


class Pool(Peer):
    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        context = multiprocessing.get_context("forkserver")
        self.executor = ProcessPoolExecutor(workers, mp_context=context)

    def submit(self, function: Callable[..., object], *arguments: Any) -> Any:
        return self.executor.submit(function, *arguments)

    def close(self) -> None:
        self.executor.shutdown()
