"""What the tests of races share: a client of a pool of its own, warmed up so that calls can be counted."""

from __future__ import annotations

import importlib.util
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dremioframe.orchestration.pool.process_pool import PoolOptions, ProcessPool

if TYPE_CHECKING:
    from collections.abc import Iterator

_spec = importlib.util.spec_from_file_location("pool_parts", Path(__file__).parents[1] / "pool" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_parts)  # which makes the modules beside it importable
gone = importlib.import_module("pool_waiting").gone
eventually = importlib.import_module("pool_waiting").eventually

#: So many calls have a worker run before the race: it holds calls in advance then, and the next is number WARM + 1.
WARM = 20


@contextmanager
def pool_client(warm: int = WARM, on_request: Any = None, **options: Any) -> Iterator[Any]:
    """A client of a pool of one worker (or ``size``) that has run ``warm`` calls; see ``tests/pool/conftest.py``."""
    options = {"size": 1, "runner": "pool_runner:make_runner", "kill_grace_s": 60.0, **options}
    with ProcessPool(PoolOptions(**options)) as pool:
        client = _parts.Client(pool, on_request)
        try:
            for _ in range(warm):
                client.run("pass")
            yield client
        finally:
            client.lease.close()
