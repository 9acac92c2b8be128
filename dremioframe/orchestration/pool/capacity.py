"""Who may have how many workers: the state that all leases of a pool share, under one lock.

Leases run in different threads, each with a loop of its own. They meet here, rarely: when a worker is needed or given
back, when one ends, and when the zygote has something to say. Whichever loop happens to hear the zygote reads all its
reports and *posts* them to the leases they concern; a worker's handle is touched only by the thread that has it.

Fair shares: with k leases each has a right to ``ceil(size / k)`` workers; it may have more while nobody is hungry.
While somebody is, one that has more gives workers back as they become empty; one that has idle workers gives those back
at once; and when there are more leases than workers, one that has none is served by the one that has had the most for
the longest, call by call.

What lives here: places and shares, and what an end means for them. What may not: anything about calls, and keeping the
zygote (``nursery``).
"""

from __future__ import annotations

import os
import threading
from collections import deque

from .. import failpoints
from ..errors import ExecutorClosedError, WorkerStartError
from . import channel, frames, termination
from .frames import Kind, ProtocolError
from .nursery import Nursery
from .orphans import end_orphans
from .shares import Share
from .shortage import Gauge
from .starts import Starts
from .undisturbed import Undisturbed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .process_pool import PoolOptions
    from .shares import Tenant
    from .worker_handle import WorkerHandle
    from .zygote_client import Report, ZygoteClient


class Capacity:
    """Workers, their zygote, and the leases that share them. Every method takes the lock for itself.

    Attributes:
        gauge: How the machine stands for memory.
        hungry: Leases that could use a worker and cannot have one, longest waiting first. Read without the lock as a
            hint.
    """

    def __init__(self, options: PoolOptions) -> None:
        self.options = options
        self.pid = os.getpid()
        self.closed = False
        self.hungry: deque[Share] = deque()
        self._lock = threading.RLock()
        self._shares: list[Share] = []
        self._idle: list[WorkerHandle] = []
        self._owners: dict[int, tuple[WorkerHandle, Share | None]] = {}
        self._unsettled: dict[int, tuple[WorkerHandle, Share | None]] = {}
        self.gauge = Gauge(options.machine_memory)
        self._starts = Starts()
        self._nursery = Nursery(options)

    # --------------------------------------------------------------------------------------------------------- leases

    def join(self, tenant: Tenant, limit: int) -> Share:
        """A new lease."""
        with self._lock:
            self.check_usable()
            if not self._shares:
                self._starts.forgive()
            share = Share(tenant, limit)
            self._shares.append(share)
            if len(self._shares) > 1:
                self._wake_all()
            return share

    def leave(self, share: Share) -> None:
        """The lease is over; it has given back or buried all its workers."""
        with self._lock:
            self._shares.remove(share)
            self._sated(share)
            for worker, owner in list(self._owners.values()):
                if owner is share:  # handed over, and the lease was closed before it heard of it
                    self._release(worker)
            self._wake_all()

    def check_usable(self) -> None:
        """Raise ExecutorClosedError if it was closed, or belongs to the process that this one was forked from."""
        if os.getpid() != self.pid:
            raise ExecutorClosedError("the process pool was used after fork: it belongs to the parent process")
        if self.closed and not (failpoints.armed and failpoints.hit("capacity.closed")):
            raise ExecutorClosedError(
                "the ProcessExecutor that was given to run() or start() has been closed, by close() or at the end of "
                "its `with` block: make a new one, or close it after its last run"
            )

    def surplus(self, share: Share) -> int:
        """How many workers this lease must give up as soon as they are empty."""
        return max(share.workers - self._fair_share(share), share.owed) if self.hungry else 0

    def others_hungry(self, share: Share) -> bool:
        """Whether another lease could use what this one does not."""
        with self._lock:
            return bool(self.hungry) and share not in self.hungry

    # -------------------------------------------------------------------------------------------------------- workers

    def growth(self, share: Share) -> int:
        """How many more workers this lease could get now."""
        if share.workers >= share.limit:
            return 0  # asked at every turn; the lock would not make this number any newer
        with self._lock:
            starts = self._starts
            if starts.must_wait() or starts.hopeless(len(self._owners)):
                return 0
            unused = len(self._idle) + self.options.size - len(self._owners)
            contested = any(other is not share for other in self.hungry)
            ceiling = self._fair_share(share) if contested else share.limit
            return max(0, min(ceiling - share.workers, unused))

    def acquire(self, share: Share) -> WorkerHandle | None:
        """An idle worker, or a new one that is being forked; None if none is to be had now."""
        with self._lock:
            self.check_usable()
            if not self.growth(share):
                return None
            worker = self._take_idle() or self._start()
            if worker is not None:
                self._own(worker, share)
            return worker

    def want(self, share: Share) -> None:
        """A lease has work and no room for it."""
        if share.workers >= share.limit:
            return  # as in ``growth``
        with self._lock:
            if share in self.hungry or share.workers >= self._fair_share(share):
                return
            if self.options.size > len(self._owners):
                return  # nobody else has what it wants: it waits for the delay after a failed start
            self.hungry.append(share)
            if share.workers == 0:
                rich = max(self._shares, key=lambda other: other.workers - other.owed)
                if rich is not share and rich.workers - rich.owed > 0:
                    rich.owed += 1
                    share.debtor = rich
            self._wake_all(but=share)

    def give_back(self, worker: WorkerHandle, share: Share) -> None:
        """An empty worker is not needed any more."""
        with self._lock:
            share.workers -= 1
            self._release(worker)

    def is_owner(self, worker: WorkerHandle, share: Share) -> bool:
        """Whether this lease has that worker."""
        with self._lock:
            return self._owners.get(worker.incarnation) == (worker, share)

    def gone(self, worker: WorkerHandle, share: Share) -> None:
        """A leased worker is confirmed dead: its place is free. How it ended may still have to be told: ``settled``."""
        with self._lock:
            del self._owners[worker.incarnation]
            self._nursery.cancel(worker)
            self._unsettled[worker.incarnation] = (worker, share)
            if not (failpoints.armed and failpoints.hit("capacity.place")):
                share.workers -= 1
            for other in (share, *self.hungry):  # it may have been the last, and nothing else would wake its lease
                other.post(None)

    def settled(self, worker: WorkerHandle) -> None:
        """Nobody needs to know more about this worker."""
        with self._lock:
            self._unsettled.pop(worker.incarnation, None)

    # ----------------------------------------------------------------------------------------------------- fork server

    def start(self) -> None:
        """Start the zygote now rather than with the first worker."""
        with self._lock:
            self.check_usable()
            self._nursery.open()

    @property
    def zygote(self) -> ZygoteClient | None:
        """Whose channel a lease has to watch, and to call :meth:`listen` when it is readable."""
        return self._nursery.zygote

    def must_fork(self, now: float) -> bool:
        """Whether the zygote must be forking by now what it was told to."""
        return self._nursery.must_fork(now)

    def order(self) -> None:
        """Order the forks that could not be ordered before."""
        with self._lock:
            self._nursery.order()

    def postpone(self, away_s: float) -> None:
        """A lease was away for so long, and the zygote may have been stopped, too."""
        with self._lock:
            self._nursery.postpone(away_s)

    def listen(self) -> None:
        """Read what the zygote has said and pass it on.

        Raises:
            OutOfDescriptors: It has said more, and that cannot be taken now. Nothing is lost.
        """
        with self._lock:
            zygote = self._nursery.zygote
            if zygote is None:
                return
            try:
                for report in zygote.reports():
                    if not self._nursery.hear(report):
                        self._on_worker_report(report)
            except (channel.Closed, ProtocolError) as error:  # gone, or of no use any more
                self._lose_zygote(zygote.end() if isinstance(error, channel.Closed) else zygote.kill())
                return
            self._nursery.order()

    def continue_zygote(self) -> None:
        """It does not say what it must know; somebody may have stopped it."""
        with self._lock:
            if (zygote := self._nursery.zygote) is not None:
                zygote.resume()

    def distrust_zygote(self) -> None:
        """It has not said what it must have known for a long time, and nobody has stopped it."""
        with self._lock:
            if (zygote := self._nursery.zygote) is not None:
                zygote.kill()
                self._lose_zygote("did not answer", fate="did not answer and was ended")

    # ---------------------------------------------------------------------------------------------------------- starts

    def start_failed(self, why: str, *, from_outside: bool) -> None:
        """A worker of a lease could not be started; ``slow_down`` has been said before."""
        with self._lock:
            self._starts.failed(why, passing=from_outside)

    def slow_down(self) -> None:
        """A worker of a lease has ended for nothing."""
        with self._lock:
            self._starts.slow_down()

    def booted(self) -> None:
        """A worker of a lease is ready."""
        with self._lock:
            self._starts.succeeded()
            self._nursery.useful = True

    def retry_at(self) -> float:
        """When a worker may be started again; in the past unless the last start failed."""
        return self._starts.not_before

    def check_hope(self) -> None:
        """Raise WorkerStartError if there is no point in waiting for a worker."""
        with self._lock:
            if self._starts.hopeless(len(self._owners)):
                raise self._starts.give_up()

    def close(self) -> None:
        """End the zygote, and with it every worker. Leases still open find out."""
        with Undisturbed(), self._lock:
            if self.closed or os.getpid() != self.pid:
                return
            self.closed = True
            if (zygote := self._nursery.zygote) is not None:
                self._lose_zygote(zygote.end())
            self._nursery.close()
            self._wake_all()

    def abandon(self) -> None:
        """In a child that the user's process has forked: close what is not ours. Locks may be held for ever here."""
        self.closed = True
        self._nursery.abandon()
        for worker, _ in (*self._owners.values(), *self._unsettled.values()):
            worker.close()
        for share in self._shares:
            share.abandon()
        self._owners.clear()
        self._unsettled.clear()
        self._idle.clear()

    # ---------------------------------------------------------------------------------------------------------- inside

    def _fair_share(self, share: Share) -> int:
        fair = -(-self.options.size // max(1, len(self._shares)))
        return min(fair, share.limit)

    def _own(self, worker: WorkerHandle, share: Share) -> None:
        self._owners[worker.incarnation] = (worker, share)
        share.workers += 1
        self._sated(share)

    def _release(self, worker: WorkerHandle) -> None:
        """Nobody has this worker: hand it to whoever has waited longest, or keep it warm."""
        self._owners[worker.incarnation] = (worker, None)
        worker.leaving = False
        if worker.is_dead() or self.closed:
            self._bury(worker)
        elif self.hungry:
            heir = self.hungry[0]
            self._own(worker, heir)
            heir.post(worker)
        else:
            self._idle.append(worker)

    def _sated(self, share: Share) -> None:
        if share in self.hungry:
            self.hungry.remove(share)
        if share.debtor is not None:
            share.debtor.owed -= 1
            share.debtor = None

    def _wake_all(self, but: Share | None = None) -> None:
        for share in self._shares:
            if share is not but:
                share.post(None)

    def _take_idle(self) -> WorkerHandle | None:
        while self._idle:
            worker = self._idle.pop()  # the one used last: its caches are warm
            if not worker.is_dead():
                return worker
            self._bury(worker)
        return None

    def _bury(self, worker: WorkerHandle) -> None:
        """An idle worker has ended; nobody misses it."""
        self._owners.pop(worker.incarnation, None)
        if worker in self._idle:
            self._idle.remove(worker)
        self._nursery.cancel(worker)
        worker.close()

    def _start(self) -> WorkerHandle | None:
        try:
            return self._nursery.fork()
        except (OSError, WorkerStartError) as error:
            self._starts.refused(error)
            self._starts.slow_down()
            return None

    def _on_worker_report(self, report: Report) -> None:
        """Note it on the worker's handle and have its lease look. Only these fields are written from other threads."""
        owned = self._owners.get(report.incarnation) or self._unsettled.get(report.incarnation)
        if owned is None:
            if report.pidfd >= 0:  # nobody waits for it any more
                termination.kill(report.pidfd)
                os.close(report.pidfd)
            return
        worker, share = owned
        match report.kind:
            case Kind.FORKED:
                worker.forked(report.detail, report.pidfd)
            case Kind.FORK_FAILED:
                worker.boot_error = f"cannot fork a worker: {os.strerror(report.detail & 0xFFFF)}"
                worker.exit = (None, None)
            case Kind.EXITED:
                worker.exit = frames.read_exit(report.number)
        if share is not None:
            share.post(worker)
        elif worker.exit is not None:
            self._bury(worker)

    def _lose_zygote(self, how: str, fate: str = "had ended") -> None:
        """The zygote has ended, and its workers with it: the kernel kills them, and their sessions are looked for."""
        zygote = self._nursery.zygote
        parents = frozenset((zygote.pid, zygote.server_pid)) if zygote is not None else frozenset()
        failure = self._nursery.lose(how)
        if failure is not None and not self.closed:
            why, final = failure
            self._starts.failed(why, final=final, passing=zygote is not None and zygote.was_killed)
            self._starts.slow_down()
        owned = [*self._owners.values(), *self._unsettled.values()]
        for worker, _ in owned:
            worker.orphaned = fate
        try:
            end_orphans([worker for worker, _ in owned if worker.exit is None], parents)
        except OSError:
            pass  # no descriptor to look by: the kernel ends the workers, and the sentry what they leave
        for worker, share in owned:
            if share is not None:
                share.post(worker)
            else:
                self._bury(worker)
