"""Whom we are measured beside: one module each, imported when its turn comes.

Every module has a class ``Pool`` that follows ``interface.Peer``. It is set up with the same number of worker
processes as ours, by fork server where the peer lets one choose, and otherwise as the peer's documentation advises
for speed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .interface import Peer

MODULES = {
    "concurrent.futures": "concurrent_futures",
    "loky": "loky_executor",
    "pebble": "pebble_pool",
    "mpire": "mpire_pool",
    "dask": "dask_cluster",
    "ray": "ray_tasks",
    "prefect": "prefect_flow",
}
POOLS = ("concurrent.futures", "loky", "pebble", "mpire")
ALL = tuple(MODULES)


def open_peer(name: str, workers: int) -> Peer:
    """Start a peer.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    pool: Peer = importlib.import_module(f"benchmarks.peers.{MODULES[name]}").Pool(workers)
    return pool
