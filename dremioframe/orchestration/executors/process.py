"""Attempts in worker processes: the executor and its options.

What lives here: what a user of the executor writes. What may not: a run over it (``process_session``), processes and
sockets (``pool``). This module can be imported on every platform: what needs Linux is imported where it is used.
"""

from __future__ import annotations

import os
import sys
import threading

from .. import failpoints, options
from ..errors import DefinitionError, NestedRunError, WorkerStartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn, Self

    from ..interfaces import Inputs, Plan
    from ..payload.store import Store
    from ..pool.process_pool import ProcessPool
    from .process_session import ProcessSession

_RUNNER = "dremioframe.orchestration.worker_attempt:AttemptRunner"
_DEFAULT_GRACE_S = 2.0
_DEFAULT_MEMORY_BUDGET = 0.5


class ProcessExecutor:
    """Runs tasks in worker processes that stay warm from run to run.

    Args:
        max_workers: Most tasks at once; None takes the CPUs this process may use (affinity and cgroup quota counted).
        preload: Modules imported once, before workers are forked; one that leaves threads running is refused by name.
            All imports together may take two minutes. Numeric libraries then get one thread in each worker.
        initializer: Called once in each new worker, with ``initargs``; may take two minutes.
        initargs: Arguments of ``initializer``.
        max_tasks_per_worker: A worker is replaced after so many attempts; None means never.
        kill_grace_s: Seconds between SIGTERM and SIGKILL when an attempt is stopped.
        env: Extra environment variables of the workers.
        memory_budget: How much of the usable memory (cgroup counted) long results may take, as a share above 0 and up
            to 1; beyond it they go to files without names in ``spill_dir``.
        spill_dir: Where those lie: a directory on a disk. None takes the first of TMPDIR, /var/tmp and /tmp that is
            one; if none is, nothing is spilled, and a warning says so when the budget is reached.

    Raises:
        DefinitionError: An option makes no sense, or this is not Linux.

    Example::

        with ProcessExecutor(max_workers=8, preload=["pandas"]) as executor:
            pipeline.run(executor=executor)
            pipeline.run(executor=executor)     # same workers
    """

    name = "process"
    limits_memory = True

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        preload: Sequence[str] = (),
        initializer: Callable[..., object] | None = None,
        initargs: Sequence[object] = (),
        max_tasks_per_worker: int | None = None,
        kill_grace_s: float = _DEFAULT_GRACE_S,
        env: Mapping[str, str] | None = None,
        memory_budget: float = _DEFAULT_MEMORY_BUDGET,
        spill_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if sys.platform != "linux":
            raise DefinitionError(f"executor='process' is not there yet on {sys.platform}; use 'thread' or 'inline'")
        from ..payload import store
        from ..pool import cpu, memory
        from ..pool.process_pool import PoolOptions, ProcessPool

        usable = cpu.usable_cpus()
        self.max_workers = options.at_least_one("max_workers", max_workers) or usable
        threads = 1 if preload else max(1, usable // self.max_workers)  # threads do not outlive a fork
        self._running_in: set[tuple[int, int]] = set()  # (process, thread)
        self._env = {**cpu.thread_limit_env(threads), **_checked_env(env)}
        limit = options.at_least_one("max_tasks_per_worker", max_tasks_per_worker)
        if failpoints.armed and failpoints.hit("process.max_tasks"):
            limit = None
        directory = options.directory("spill_dir", spill_dir)
        self._store: Store = store.Store(
            memory.usable_memory_bytes, options.share("memory_budget", memory_budget), directory
        )
        self._pool: ProcessPool = ProcessPool(
            PoolOptions(
                size=self.max_workers,
                preload=_checked_preload(preload),
                initializer=_packed_initializer(initializer, tuple(initargs)),
                max_calls_per_worker=limit,
                kill_grace_s=options.grace("kill_grace_s", kill_grace_s),
                env=self._env,
                threads_per_worker=threads,
                runner=_RUNNER,
                spill_dir=directory,
            ),
            self._store,
        )

    def start_early(self) -> None:
        """Start the fork server before a run needs it, so that it boots while the caller does something else."""
        try:
            self._pool.start()
        except (OSError, WorkerStartError):
            pass  # what is wrong is told by the first run, which tries again

    def open(self, plan: Plan, inputs: Inputs) -> ProcessSession:
        """Begin one run; see :class:`~..interfaces.Executor`.

        Raises:
            NestedRunError: This thread is in the middle of another run of this executor. That one gives no worker back
                before this one ends, which may wait for just that.
        """
        from .process_session import ProcessSession  # far more than the pool's start needs

        thread = os.getpid(), threading.get_ident()
        if thread in self._running_in:
            raise NestedRunError(
                f"pipeline {plan.pipeline_name!r}: a run was started on a ProcessExecutor by code that another run on "
                "it waits for in the same thread (a signal handler, a `retry_on` predicate, a log sink, the pickling "
                "of an argument); give it an executor of its own, or use start() and do not wait for it there"
            )
        session = ProcessSession(
            plan, inputs, self._pool, self._store, self._env, lambda: self._running_in.discard(thread)
        )
        self._running_in.add(thread)
        return session

    def close(self) -> None:
        """End all workers. Idempotent; runs that go on lose theirs."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ProcessExecutor owns processes and cannot be sent to one; name 'process' or 'thread' there")


def _checked_preload(preload: object) -> tuple[str, ...]:
    if isinstance(preload, tuple | list) and all(isinstance(name, str) for name in preload):
        return tuple(preload)
    raise DefinitionError(f"preload must be a list or tuple of module names, not {preload!r}")


def _checked_env(env: Mapping[str, str] | None) -> dict[str, str]:
    given: dict[Any, Any] = dict(env or {})
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise DefinitionError(f"env must map text to text, not {name!r} to {value!r}")
    return given


def _packed_initializer(initializer: Callable[..., object] | None, initargs: tuple[object, ...]) -> bytes | None:
    if initializer is None:
        return None
    if not callable(initializer):
        raise DefinitionError(f"initializer must be callable, not {initializer!r}")
    from functools import partial

    from ..payload import codec, references

    try:
        return references.pack_code(partial(initializer, *initargs))
    except codec.EncodeError as error:
        raise DefinitionError(f"the initializer or its arguments cannot be pickled: {error.reason}") from error
