"""Ray on this machine alone: one processor a task, no dashboard, no logs to the driver."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray

from .interface import Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Pool(Peer):
    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        ray.init(
            address="local",
            num_cpus=workers,
            object_store_memory=4 * 1024**3,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
        )
        self._remote: dict[Callable[..., object], Any] = {}

    def submit(self, function: Callable[..., object], *arguments: Any) -> Any:
        remote = self._remote.get(function)
        if remote is None:
            remote = self._remote[function] = ray.remote(function)
        return remote.remote(*arguments)

    def value(self, handle: Any) -> Any:
        return ray.get(handle)

    def values(self, handles: Sequence[Any]) -> list[Any]:
        return list(ray.get(list(handles)))

    def passed(self, handle: Any) -> Any:
        return handle

    def close(self) -> None:
        ray.shutdown()
