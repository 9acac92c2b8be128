"""The pool as its users have it: options, leases, and an end that cannot be forgotten.

What lives here: the public face and the pool's lifetime (closing, interpreter exit, ``os.fork`` in the user's process,
being dropped without ``close``). What may not: the work; that is done in ``supervisor`` (per lease) and ``capacity``.
"""

from __future__ import annotations

import atexit
import os
import warnings
import weakref

from .. import failpoints
from ..payload.store import Store
from . import memory
from .capacity import Capacity
from .events import CallEnded
from .undisturbed import Undisturbed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import NamedTuple, Self

    from ..payload.segments import Segment
    from .memory import Memory
    from .supervisor import Lease
else:
    from ..light_typing import NamedTuple


class PoolOptions(NamedTuple):
    """How a pool's workers are to be.

    Attributes:
        size: Most worker processes at once, dying ones included.
        runner: What runs calls, as ``"module:attribute"``: called once in each worker with its ``Ports``, it gives a
            function from (call id, body) to (status 0 to 255, parts of the payload).
        preload: Modules imported once in the fork server.
        initializer: Code packed by ``payload.references.pack_code``, called once in each worker; or None.
        max_calls_per_worker: A worker is replaced after so many calls; None means never.
        kill_grace_s: Seconds between SIGTERM and SIGKILL when a call is stopped.
        env: Extra environment variables.
        threads_per_worker: Thread limit given to numeric libraries.
        spill_dir: Where long results go when ``store`` has no room; None to look for a directory then.
        machine_memory: What the machine has of memory; calls wait while it is short.
    """

    size: int
    runner: str
    preload: tuple[str, ...] = ()
    initializer: bytes | None = None
    max_calls_per_worker: int | None = None
    kill_grace_s: float = 2.0
    env: Mapping[str, str] = {}
    threads_per_worker: int = 1
    spill_dir: str | None = None
    machine_memory: Callable[[], Memory] = memory.look


class ProcessPool:
    """Worker processes that stay warm between leases. May be used from several threads.

    Nothing is started before the first lease needs it, or :meth:`start` is called.

    Example::

        with ProcessPool(PoolOptions(size=2, runner="mypackage.runner:make_runner")) as pool:
            lease = pool.lease(lambda call_id, body: b"")
            lease.submit(1, b"body", timeout_s=None)
            [ended] = lease.wait(None)
            lease.close()
    """

    def __init__(self, options: PoolOptions, store: Store | None = None) -> None:
        """
        Args:
            store: Keeps account of long results; None for one without limits.
        """
        capacity = Capacity(options)
        self._capacity = capacity
        self._store = store or Store()
        _open.add(capacity)
        # Not at exit: there all open pools are closed, without a warning.
        weakref.finalize(self, _dropped, capacity).atexit = False

    def start(self) -> None:
        """Start the fork server now, so that it boots while the caller does something else.

        Raises:
            ExecutorClosedError: The pool is closed, or was inherited through ``os.fork``.
            WorkerStartError: There is no interpreter to start.
            OSError: The system has no process or descriptor to spare.
        """
        self._capacity.start()

    def lease(
        self,
        on_request: Callable[[int, bytes], bytes | Segment],
        max_workers: int | None = None,
        ended_type: type[CallEnded] = CallEnded,
    ) -> Lease:
        """Begin to use workers of this pool; close the lease when done.

        Args:
            on_request: Answers what running calls ask, given the call's id and the question. Called in ``wait``, in
                the thread that waits. What it raises is told to the one who asked. A ``Segment`` stays the callee's.
            max_workers: Most workers to use; None means the size of the pool, which is the ceiling in any case.
            ended_type: What to make of each call that has ended.

        Raises:
            ExecutorClosedError: The pool is closed, or was inherited through ``os.fork``.
            WorkerStartError: No descriptor or no memory is left to listen to workers by.
        """
        from .supervisor import Lease  # not before the fork server was started: that takes as long to boot

        return Lease(self, self._capacity, self._store, on_request, max_workers, ended_type)

    def close(self) -> None:
        """End all workers and everything below them, and wait for that. Idempotent. Leases still open lose theirs."""
        _end(self._capacity)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


#: Pools that have to be ended before this process does.
_open: set[Capacity] = set()


def _end(capacity: Capacity) -> None:
    """Close it and forget it, also if a signal handler raises when it is closed."""
    try:
        capacity.close()
    finally:
        if capacity.closed:  # else one has raised before anything was done
            _open.discard(capacity)


def _dropped(capacity: Capacity) -> None:
    """The pool was garbage-collected. No lease is open: it would hold the pool."""
    if failpoints.armed and failpoints.hit("process_pool.dropped"):
        return
    forgotten = not capacity.closed and os.getpid() == capacity.pid
    _end(capacity)
    if forgotten:  # said last: a warning may be an error
        warnings.warn("a process pool was dropped without close()", ResourceWarning, stacklevel=2)


@atexit.register
def _close_all() -> None:
    with Undisturbed():  # one that is interrupted would leave the others to their fork servers
        for capacity in list(_open):
            capacity.close()
        _open.clear()


def _after_fork_in_child() -> None:
    """The user's process has forked itself: nothing of its pools may be kept open, let alone used, in the child."""
    if failpoints.armed and failpoints.hit("process_pool.after_fork"):
        return
    for capacity in list(_open):
        capacity.abandon()
    _open.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
