"""loky, joblib's pool: a ``concurrent.futures`` executor that survives a crash, and starts workers its own way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loky import ProcessPoolExecutor

from .interface import Peer

if TYPE_CHECKING:
    from collections.abc import Callable


class Pool(Peer):
    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.executor = ProcessPoolExecutor(max_workers=workers)

    def submit(self, function: Callable[..., object], *arguments: Any) -> Any:
        return self.executor.submit(function, *arguments)

    def close(self) -> None:
        self.executor.shutdown()
