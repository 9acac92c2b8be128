"""What the tests of races share: a client of a pool of its own, warmed up so that calls can be counted."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dremioframe.orchestration.pool.process_pool import PoolOptions, ProcessPool

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.append(str(Path(__file__).parents[1] / "pool"))

from pool_client import Client
from pool_waiting import eventually, gone

__all__ = ["WARM", "Client", "eventually", "gone", "pool_client"]

#: So many calls have a worker run before the race: it holds calls in advance then, and the next is number WARM + 1.
WARM = 20


@contextmanager
def pool_client(warm: int = WARM, on_request: Any = None, **options: Any) -> Iterator[Any]:
    """A client of a pool of one worker (or ``size``) that has run ``warm`` calls; see ``tests/pool/pool_client.py``."""
    options = {"size": 1, "runner": "pool_runner:make_runner", "kill_grace_s": 60.0, **options}
    with ProcessPool(PoolOptions(**options)) as pool:
        client = Client(pool, on_request)
        try:
            for _ in range(warm):
                client.run("pass")
            yield client
        finally:
            client.lease.close()
