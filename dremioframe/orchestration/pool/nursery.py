"""Where workers come from: the zygote in office, what it was told to fork, and what it has said of itself.

What lives here: one zygote after the other, each started when a worker is needed. What may not: whose workers they are
and what follows from an end (``capacity``), and locking: all calls are made under the pool's lock.
"""

from __future__ import annotations

import os
import time
from collections import deque

from . import boot, channel, cpu, descriptors
from .frames import Kind
from .worker_handle import WorkerHandle
from .zygote_client import ZygoteClient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .process_pool import PoolOptions
    from .zygote_client import Report

#: A zygote that has not become ready in time says so itself, with its stack, if it can; it has so long for that.
_SAYING_S = 5.0


class Nursery:
    """The zygotes of one pool.

    Attributes:
        zygote: The one in office, or None.
        ready: It has imported what it was to import, and forks when told to.
        useful: Some worker of it got ready.
    """

    __slots__ = ("_descriptor_limit", "_error", "_final", "_incarnation", "_options", "_ready_by", "_unordered",
                 "ready", "useful", "zygote")  # fmt: skip

    def __init__(self, options: PoolOptions) -> None:
        self.zygote: ZygoteClient | None = None
        self.ready = False
        self.useful = False
        self._options = options
        self._error = ""
        self._final = False
        self._ready_by = 0.0
        self._incarnation = 0
        self._unordered: deque[WorkerHandle] = deque()  # their fork could not be ordered yet
        self._descriptor_limit = descriptors.acquire()

    def open(self) -> None:
        """Start a zygote unless there is one.

        Raises:
            OSError: No process, no descriptor, or no such kernel facility.
            WorkerStartError: There is no interpreter to start.
        """
        if self.zygote is not None:
            return
        options = self._options
        environ = {**os.environ, **cpu.thread_limit_env(options.threads_per_worker), **options.env}
        self.ready, self.useful, self._error, self._final = False, False, "", False
        self._ready_by = time.monotonic() + boot.START_LIMIT_S + _SAYING_S
        self.zygote = ZygoteClient.start(
            runner=options.runner,
            preload=options.preload,
            initializer=options.initializer,
            spill_dir=options.spill_dir,
            descriptor_limit=self._descriptor_limit,
            environ=environ,
        )

    def fork(self) -> WorkerHandle:
        """A new worker, whose fork is ordered as soon as the zygote takes orders.

        Raises:
            OSError: As :meth:`open`.
            WorkerStartError: As :meth:`open`.
        """
        self.open()
        worker = WorkerHandle.create(self._incarnation + 1)
        self._incarnation += 1
        self._unordered.append(worker)
        self.order()
        return worker

    def order(self) -> None:
        """Order the forks that could not be ordered before."""
        while self._unordered and self.zygote is not None:
            worker = self._unordered[0]
            try:
                if not self.zygote.fork(worker.incarnation, worker.worker_fds()):
                    return
            except channel.Closed:
                return  # its own reports say so too, and there it is dealt with
            self._unordered.popleft()
            worker.handed_over()

    def must_fork(self, now: float) -> bool:
        """Whether the zygote must be forking by now what it was told to."""
        return self.ready or now >= self._ready_by

    def postpone(self, away_s: float) -> None:
        """Give it so much longer to get ready."""
        self._ready_by += away_s

    def cancel(self, worker: WorkerHandle) -> None:
        """A worker is not wanted any more; nothing is done about a fork that was ordered."""
        if worker in self._unordered:
            self._unordered.remove(worker)

    def hear(self, report: Report) -> bool:
        """Note what the zygote says of itself; False if it speaks of a worker."""
        if report.kind == Kind.ZYGOTE_FAILED:
            self._error, self._final = report.text, not report.detail
        elif report.kind == Kind.READY:
            self.ready = True
        else:
            return False
        return True

    def lose(self, how: str) -> tuple[str, bool] | None:
        """The zygote has ended; gives why no worker could be started and whether the next would fail too, if so."""
        self.zygote = None
        self._unordered.clear()
        if self.useful:
            return None
        return self._error or f"the fork server ended before any worker was ready: it {how}", self._final

    def close(self) -> None:
        """There will be no other zygote."""
        descriptors.release()

    def abandon(self) -> None:
        """In a child that the user's process has forked: the zygote is not ours."""
        if self.zygote is not None:
            self.zygote.forget()
            self.zygote = None
