"""The zygote: a small single-threaded process that forks the workers, and outlives them to clean up.

::

    coordinator (the user's process, may have threads)
        | posix_spawn: a fresh interpreter, own session          control channel: FORK -> <- FORKED, EXITED
      sentry
        | fork: see there
        v
      zygote ---- fork ---> worker (own session) ---> whatever tasks start
        ^                      |                         |
        +---- orphans ---------+---- when it ends -------+

Why it exists: forking the user's process is unsafe when that has threads, and starting an interpreter per worker costs
150 ms; a fork from here costs 5 ms, shares preloaded imports, and never imports the user's ``__main__``.

It is the guardian. Two things say that the coordinator is gone: its pidfd, and the end of the control channel. (The
second alone is not enough: a child that the user's process has forked may hold a copy. The first alone is not enough
either: ``exec`` keeps the process.) Then it kills everything below it and ends. So it does when the sentry has died.

It is the only reaper. A worker that has ended stays a zombie until its process group has been killed, so the group's
number cannot belong to somebody else by then. What the worker's tasks had left behind (workers adopt orphans, and
leave them to the zygote) is killed too, until no child is left but workers and what preloaded modules have started.
Only then the exit is reported, so whoever hears of it may rely on the whole tree being gone. No wait for a single
process lasts: a zombie that a debugger holds cannot be reaped until that lets go.

All signals are blocked here from start to end: its life is bound to the coordinator's and to nothing else, and no
signal can hit a child between its fork and the reset of its signal handling.

What lives here: the loop and the tree. What may not: user code, except for the ``preload`` modules before the first
fork. The child's own first steps are in ``birth``.
"""

from __future__ import annotations

import errno
import gc
import os
import resource
import select
import signal
import sys
import time
from collections import deque

from .. import failpoints
from . import birth, changes, channel, frames, kinship, sentry, streams
from .boot import CONTROL_FD, COORDINATOR_FD
from .channel import Channel, Closed
from .frames import Kind
from .preload import preload
from .refusal import story

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .boot import BootMessage

#: A report waits so long for the dead worker's descendants to be gone. They have been sent SIGKILL; one that sits in
#: the kernel uninterruptibly must not hold up a run.
_REPORT_HELD_S = 0.5

#: It is looked again so often for what no event tells: that a debugger has let go of a dead child, that a descriptor is
#: free, that the coordinator reads.
_HELD_LOOK_S = 0.1
_LOOK_S = 0.01

#: So many strangers are ended in one turn of the loop: there may be tens of thousands, and others wait to be served.
_AT_ONCE = 1000

_NEVER = float("inf")


def main(boot: BootMessage) -> NoReturn:
    """Be the zygote of the coordinator that wrote ``boot``."""
    for fd in (CONTROL_FD, COORDINATOR_FD):
        os.set_inheritable(fd, False)  # noqa: FBT003 - the standard library's signature
    soft, hard = boot["descriptor_limit"], resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    sys.argv[:] = boot["argv"]
    control = channel.adopt(CONTROL_FD)
    try:
        sentry_fd = sentry.leave_behind()
        kinship.adopt_orphans()
        changes.watch()
        preload(
            boot["preload"],
            (COORDINATOR_FD, CONTROL_FD),
            boot["start_limit_s"],
            lambda story: _refuse_to_boot(control, story),
        )
        streams.fill_gaps()
        newborn = birth.prepare(boot["runner"], boot["initializer"], boot["spill_dir"])
    except OSError as error:
        _refuse_to_boot(control, story(error), error.errno or errno.EAGAIN)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told as the reason why no worker starts
        _refuse_to_boot(control, story(error))
    if not (failpoints.armed and failpoints.hit("zygote.block_signals")):
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    if not (failpoints.armed and failpoints.hit("zygote.reset_signals")):
        birth.reset_signals()
    gc.freeze()  # a collection in a worker would otherwise write to, and so copy, every shared page
    try:
        zygote = _Zygote(control, newborn, sentry_fd)
    except OSError as error:
        _refuse_to_boot(control, story(error), error.errno or errno.EAGAIN)
    zygote.serve()


def _refuse_to_boot(control: Channel, why: bytes, code: int = 0) -> NoReturn:
    if failpoints.armed and failpoints.hit("zygote.refusal"):
        os._exit(1)
    try:
        control.send(frames.pack(Kind.ZYGOTE_FAILED, 0, body=why, detail=code))
    except Closed:
        pass  # nobody is left to be told
    os.killpg(0, signal.SIGKILL)  # with whatever the preloaded modules have started
    os._exit(1)


class _Zygote:
    """The loop: orders from the coordinator, deaths of children."""

    def __init__(self, control: Channel, newborn: birth.Newborn, sentry_fd: int) -> None:
        self._control = control
        self._newborn = newborn
        self._guarded = (COORDINATOR_FD, sentry_fd)
        self._pid = os.getpid()
        self._own_pidfd = os.pidfd_open(self._pid)
        self._workers: dict[int, int] = {}  # pid -> incarnation
        self._watched: dict[int, int] = {}  # pidfd -> pid, of workers and strangers
        self._strangers: set[int] = set()  # pids of watched children that are no workers
        self._foreign: set[int] = set()  # of those that belong to another user: they can only be waited for
        self._outgoing: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._preloaded = frozenset(kinship.children())  # never reaped, so that these numbers stay theirs
        self._unreaped: dict[int, int] = {}  # pid -> incarnation or 0, of the dead whom a debugger holds
        self._held: dict[int, tuple[float, bytes]] = {}  # incarnation -> exit report, until strangers are gone
        self._sweep_at = _NEVER  # when it is to be looked for strangers
        self._epoll = select.epoll()
        for fd in self._guarded:
            if not (fd == COORDINATOR_FD and failpoints.armed and failpoints.hit("zygote.coordinator")):
                self._epoll.register(fd, select.EPOLLIN)
        self._epoll.register(CONTROL_FD, select.EPOLLIN)

    def serve(self) -> NoReturn:
        """Until the coordinator is gone, or the sentry."""
        try:
            self._say(frames.pack(Kind.READY, 0, detail=self._pid), (self._own_pidfd,))
            kinship.outlive_parent()  # the sentry: its end is an event, now that others have a pidfd to end us by
            while True:
                for fd, _ in self._epoll.poll(self._patience_s()):
                    if fd in self._guarded:
                        self._end()
                    elif fd == CONTROL_FD:
                        self._obey()
                    else:
                        self._bury(fd)
                for pid, incarnation in list(self._unreaped.items()):
                    self._reap(pid, incarnation)
                if self._sweep_at <= time.monotonic():  # one for all deaths: each costs as much as there are children
                    self._sweep()
                self._release_reports()
                self._flush()
        except Closed:
            self._end()

    # ---------------------------------------------------------------------------------------------------------- orders

    def _obey(self) -> None:
        """Read one order.

        Raises:
            Closed: The coordinator has hung up.
        """
        try:
            received = self._control.receive_with(frames.HEADER_SIZE, 3)
        except channel.OutOfDescriptors:
            self._refuse_unreadable_order()
            return
        if received is None:
            return
        packet, fds = received
        if not packet:
            raise Closed
        incarnation, _ = frames.parse_any_sender(packet, frames.TO_ZYGOTE)
        try:
            self._fork(incarnation, fds)
        except OSError as error:
            if not (failpoints.armed and failpoints.hit("zygote.fork_failed")):
                self._say(frames.pack(Kind.FORK_FAILED, incarnation, detail=error.errno or errno.EAGAIN))
        finally:
            channel.close_all(fds)

    def _refuse_unreadable_order(self) -> None:
        """No descriptor is free for what came with the order. Without this it would lie there for ever."""
        packet = self._control.receive(frames.HEADER_SIZE)
        if packet:
            incarnation, _ = frames.parse_any_sender(packet, frames.TO_ZYGOTE)
            self._say(frames.pack(Kind.FORK_FAILED, incarnation, detail=errno.EMFILE))

    def _fork(self, incarnation: int, fds: tuple[int, ...]) -> None:
        _flush_output()
        if failpoints.armed:
            failpoints.hit("zygote.fork")
        pid = os.fork()
        if pid == 0:
            inherited = (CONTROL_FD, *self._guarded, self._own_pidfd, self._epoll.fileno(), *self._watched)
            birth.live(self._newborn, self._pid, incarnation, fds, inherited)
        if failpoints.armed:
            failpoints.hit("zygote.forked")
        try:
            pidfd = self._watch(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            self._sweep_at = 0.0  # to reap it
            raise
        self._workers[pid] = incarnation
        self._say(frames.pack(Kind.FORKED, incarnation, detail=pid), (pidfd,))

    # ---------------------------------------------------------------------------------------------------------- deaths

    def _bury(self, pidfd: int) -> None:
        """A child has ended: kill its group while its number is still its own, then reap, then look for orphans."""
        pid = self._watched.pop(pidfd)
        self._withdraw(pidfd)
        self._epoll.unregister(pidfd)
        os.close(pidfd)
        self._strangers.discard(pid)
        self._foreign.discard(pid)
        incarnation = self._workers.pop(pid, 0)
        whole_tree = not (failpoints.armed and failpoints.hit("zygote.tree"))
        if incarnation and whole_tree:
            _kill_group(pid)
        if failpoints.armed:
            failpoints.hit("zygote.reap")
        if incarnation:
            unknown = frames.pack(Kind.EXITED, incarnation, detail=pid, number=frames.pack_exit(None, None))
            self._held[incarnation] = (time.monotonic() + _REPORT_HELD_S, unknown)
        self._reap(pid, incarnation)
        if whole_tree and not (failpoints.armed and failpoints.hit("zygote.sweep")):
            self._sweep_at = 0.0

    def _reap(self, pid: int, incarnation: int) -> None:
        """Let go of a dead child's number, unless a debugger holds it; note how it ended if that is to be told."""
        exited = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
        if exited is None:
            self._unreaped[pid] = incarnation
            return
        self._unreaped.pop(pid, None)
        if incarnation in self._held:
            code = exited.si_status if exited.si_code == os.CLD_EXITED else None
            number = frames.pack_exit(code, exited.si_status if code is None else None)
            report = frames.pack(Kind.EXITED, incarnation, detail=pid, number=number)
            self._held[incarnation] = (self._held[incarnation][0], report)

    def _sweep(self) -> None:
        """End children that are neither workers nor preloaded.

        When one is dead its own children are ours, so it is looked again.
        """
        self._sweep_at = _NEVER
        if failpoints.armed:
            failpoints.hit("zygote.children")
        try:
            children = kinship.children()
        except OSError:  # no descriptor to list them by
            self._sweep_at = time.monotonic() + _LOOK_S
            return
        known = self._strangers | self._foreign | self._preloaded | self._workers.keys() | self._unreaped.keys()
        fresh = [pid for pid in children if pid not in known]
        for pid in fresh[:_AT_ONCE]:
            self._end_stranger(pid)
        if len(fresh) > _AT_ONCE:
            self._sweep_at = 0.0

    def _end_stranger(self, pid: int) -> None:
        killed = kinship.kill_child(pid)
        if os.waitpid(pid, os.WNOHANG) != (0, 0):  # most of a crowd are dead: a descriptor for each would not be there
            self._sweep_at = 0.0
            return
        try:
            self._watch(pid)
        except OSError:  # it dies all the same, but has to be reaped
            self._sweep_at = min(self._sweep_at, time.monotonic() + _LOOK_S)
        else:
            (self._strangers if killed else self._foreign).add(pid)

    def _watch(self, pid: int) -> int:
        """Be told when this child ends; returns its pidfd.

        Raises:
            OSError: No descriptor is left for that, or no room in epoll.
        """
        pidfd = os.pidfd_open(pid)
        try:
            self._epoll.register(pidfd, select.EPOLLIN)
        except OSError:
            os.close(pidfd)
            raise
        self._watched[pidfd] = pid
        return pidfd

    def _end(self) -> NoReturn:
        """The coordinator is gone, or the sentry: leave nothing behind."""
        self._control.close()
        self._epoll.close()
        for pid in self._workers:
            _kill_group(pid)
        kinship.end_children()
        os._exit(0)

    # --------------------------------------------------------------------------------------------------------- reports

    def _release_reports(self) -> None:
        now = time.monotonic()
        unknown = self._unreaped.values()
        for incarnation, (limit, report) in list(self._held.items()):
            if limit <= now or not (self._strangers or self._sweep_at < _NEVER or incarnation in unknown):
                if failpoints.armed:
                    failpoints.hit("zygote.report")
                del self._held[incarnation]
                self._say(report)

    def _patience_s(self) -> float:
        now = time.monotonic()
        at = min([self._sweep_at, *(limit for limit, _ in self._held.values())])
        if self._outgoing:
            at = min(at, now + _LOOK_S)
        if self._unreaped:
            at = min(at, now + _HELD_LOOK_S)
        return max(0.0, at - now) if at < _NEVER else -1

    def _say(self, packet: bytes, fds: tuple[int, ...] = ()) -> None:
        """Tell the coordinator; kept in order, and kept for later if it does not read."""
        self._outgoing.append((packet, fds))
        self._flush()

    def _flush(self) -> None:
        while self._outgoing:
            packet, fds = self._outgoing[0]
            if not (self._control.send_with(packet, fds) if fds else self._control.send(packet)):
                return
            self._outgoing.popleft()

    def _withdraw(self, pidfd: int) -> None:
        """A descriptor is about to be closed: if its worker's birth is still to be told, its end alone will do."""
        self._outgoing = deque((packet, fds) for packet, fds in self._outgoing if fds != (pidfd,))


def _flush_output() -> None:
    """What a preloaded module has printed must not be printed by every worker once more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001, S112 - that module may have closed or replaced it, or nobody reads it any more
            continue


def _kill_group(pid: int) -> None:
    """Kill the group that a worker leads. The worker is not reaped yet, so the number is its own."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # nobody of it is left, or it never became a leader; or it has changed its user, and is swept as a child
