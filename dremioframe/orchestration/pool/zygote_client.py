"""The zygote as the coordinator sees it: start it, order forks, hear of deaths, end it.

What lives here: one zygote, from spawn to reaping. What may not: which worker belongs to whom (``capacity``), and
locking: all calls are made under the pool's lock.
"""

from __future__ import annotations

import errno
import fcntl
import marshal
import os
import resource
import signal
import sys
import time

from .. import failpoints
from ..errors import WorkerStartError
from . import boot, channel, frames, interpreter, termination
from .boot import BOOT_CODE, BOOT_FD, CONTROL_FD, COORDINATOR_FD
from .frames import Kind, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import NamedTuple

    from .boot import BootMessage
else:
    from ..light_typing import NamedTuple

#: After an orderly hang-up the zygote kills its tree and ends; then it is killed.
_END_LIMIT_S = 5.0

#: Descriptors meant for the zygote are put above this while it is spawned, so that none of them is in the way of the
#: numbers that they get there.
_ABOVE = 10

_SPAWN_SIGNALS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


class Report(NamedTuple):
    """Something the zygote said: a kind of frame, and what it carries."""

    kind: int
    incarnation: int
    detail: int = 0
    number: int = 0
    text: str = ""
    pidfd: int = -1


class ZygoteClient:
    """One zygote process.

    Attributes:
        control_fd: For epoll: readable when :meth:`reports` has something to say.
        pid: The id of its sentry, which is our child, and ends when everything below it has ended.
        server_pid: Its own process id; 0 as long as it has not said that it is ready.
        was_killed: Whether somebody else has killed it; known when it has ended.
    """

    __slots__ = ("_control", "_pidfd", "_server_pidfd", "control_fd", "pid", "server_pid", "was_killed")

    def __init__(self, pid: int, pidfd: int, control: channel.Channel) -> None:
        self.pid = pid
        self._pidfd = pidfd
        self.server_pid = 0
        self.was_killed = False
        self._server_pidfd = -1
        self._control = control
        self.control_fd = control.fd

    @classmethod
    def start(
        cls,
        *,
        runner: str,
        preload: Sequence[str],
        initializer: bytes | None,
        spill_dir: str | None,
        descriptor_limit: int,
        environ: Mapping[str, str],
    ) -> ZygoteClient:
        """Start the process; what becomes of it is said by :meth:`reports`.

        Raises:
            OSError: No process, no descriptor, or no such kernel facility.
            WorkerStartError: There is no interpreter to start.
        """
        message: BootMessage = {
            "path": [str(entry) for entry in sys.path],  # some programs put paths of other types there
            "argv": [str(word) for word in getattr(sys, "argv", ())],
            "runner": runner,
            "preload": list(preload),
            "initializer": initializer,
            "spill_dir": spill_dir,
            "start_limit_s": boot.START_LIMIT_S,
            "descriptor_limit": descriptor_limit,
        }
        ours, theirs = channel.pair()
        opened: list[int] = []
        try:
            opened.append(_raised(theirs.fd))
            opened.append(_own_pidfd())
            opened.append(_memory_file(marshal.dumps(dict(message))))
            pid = _spawn(opened, environ)
            try:
                return cls(pid, os.pidfd_open(pid), ours)
            except OSError:
                os.kill(pid, signal.SIGKILL)  # a child that is not reaped: the number is its own
                os.waitpid(pid, 0)
                raise
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            channel.close_all(opened)

    def fork(self, incarnation: int, fds: tuple[int, int, int]) -> bool:
        """Order a worker with this inbox, side channel and page; False means later.

        Raises:
            Closed: The zygote is gone; :meth:`reports` says the same.
        """
        return self._control.send_with(frames.pack(Kind.FORK, incarnation), fds)

    def reports(self) -> Iterator[Report]:
        """What the zygote has said since.

        Raises:
            Closed: It is gone.
            ProtocolError: What it said is nonsense.
            OutOfDescriptors: A worker's pidfd waits and there is no number for it; nothing is lost, ask again later.
        """
        while True:
            received = self._control.receive_with(frames.HEADER_SIZE + frames.INLINE_LIMIT, 1)
            if received is None:
                return
            packet, fds = received
            if not packet:
                raise channel.Closed
            try:
                incarnation, (kind, _, detail, number) = frames.parse_any_sender(packet, frames.FROM_ZYGOTE)
                _check_descriptor(kind, fds)
                if kind == Kind.READY and self._server_pidfd >= 0:
                    raise ProtocolError("it got ready twice")
            except ProtocolError:
                channel.close_all(fds)
                raise
            if kind == Kind.READY:
                self.server_pid, self._server_pidfd, fds = detail, fds[0], ()
            text = packet[frames.HEADER_SIZE :].decode("utf-8", "replace")
            yield Report(kind, incarnation, detail, number, text, fds[0] if fds else -1)

    def end(self) -> str:
        """Make sure that it has ended, and how. It kills everything below it first; if it does not, it is killed."""
        self._control.hang_up()
        self.resume()
        return self._reap() if self._wait(_END_LIMIT_S) else self.kill()

    def kill(self) -> str:
        """End it at once; it is broken. Its workers die with it, and its sentry cleans up."""
        if self._server_pidfd < 0:
            self._look_for_server()
        if self._server_pidfd >= 0:
            termination.kill(self._server_pidfd)
        self.resume()
        if self._server_pidfd < 0 or not self._wait(_END_LIMIT_S):
            termination.kill(self._pidfd)
            self._wait(_END_LIMIT_S)
        how = self._reap()
        self.was_killed = False  # not by somebody else
        return how

    def forget(self) -> None:
        """In a child that the user's process has forked: this is not ours."""
        self._control.close()
        os.close(self._pidfd)
        if self._server_pidfd >= 0:
            os.close(self._server_pidfd)

    def resume(self) -> None:
        """Whoever was stopped from outside (SIGSTOP) cannot clean up."""
        if not (failpoints.armed and failpoints.hit("zygote_client.continue")):
            for pidfd in (self._server_pidfd, self._pidfd):
                if pidfd >= 0:
                    termination.resume(pidfd)

    def _look_for_server(self) -> None:
        """It may have got ready unheard; then its own descriptor is the one way to it, and until then its sentry is."""
        try:
            for report in self.reports():
                if report.pidfd >= 0:
                    os.close(report.pidfd)
        except (channel.Closed, channel.OutOfDescriptors, ProtocolError):
            return  # what was to be heard has been heard

    def _wait(self, timeout_s: float) -> bool:
        """Wait for the end of both: whichever is left alone cleans up, and has ended when that is done."""
        until = time.monotonic() + timeout_s
        both = [pidfd for pidfd in (self._pidfd, self._server_pidfd) if pidfd >= 0]
        return all(termination.has_ended(pidfd, until - time.monotonic()) for pidfd in both)

    def _reap(self) -> str:
        self.forget()
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else's wait has taken it, or SIGCHLD is ignored in this program
            if failpoints.armed and failpoints.hit("zygote_client.stolen_status"):
                raise
            return termination.describe_exit(None, None)
        if pid == 0:
            return "does not end"
        code = os.waitstatus_to_exitcode(status)
        self.was_killed = code == -signal.SIGKILL
        return termination.describe_exit(code, None) if code >= 0 else termination.describe_exit(None, -code)


def _check_descriptor(kind: int, fds: tuple[int, ...]) -> None:
    """A pidfd with FORKED and READY, nothing with anything else.

    Raises:
        ProtocolError: It is not so.
    """
    if (kind in {Kind.FORKED, Kind.READY}) != bool(fds):
        raise ProtocolError(f"a report of kind {kind} came with {len(fds)} descriptors")
    try:
        for pidfd in fds:
            termination.send(pidfd, 0)
    except OSError as error:
        raise ProtocolError(f"a worker's descriptor is not of a process: {error}") from error


def _spawn(fds: Sequence[int], environ: Mapping[str, str]) -> int:
    """Start a fresh interpreter with these descriptors in their places, in a session of its own."""
    if not sys.executable:
        raise WorkerStartError("there is no Python interpreter to start workers with: sys.executable is empty")
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
    if not (failpoints.armed and failpoints.hit("zygote_client.stdin")):
        actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
    actions += [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2) if not _inheritable(fd)]
    targets = (CONTROL_FD, COORDINATOR_FD, BOOT_FD)
    actions += [(os.POSIX_SPAWN_DUP2, fd, target) for fd, target in zip(fds, targets, strict=True)]
    # What the user's program has made inheritable is not meant for workers: a pipe held by one never ends.
    actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _open_fds() if fd not in {0, 1, 2, *targets} and _inheritable(fd)]
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, *interpreter.flags(), "-c", BOOT_CODE],
            dict(environ),
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=_SPAWN_SIGNALS,
        )
    except OSError as error:
        if os.access(sys.executable, os.X_OK):
            raise
        why = f"the Python interpreter {sys.executable!r} cannot be run: {os.strerror(error.errno or 0)}"
        raise WorkerStartError(why) from None


def _own_pidfd() -> int:
    """A pidfd of this process. Opened here, not in the zygote, so it cannot be somebody else's."""
    pidfd = os.pidfd_open(os.getpid())
    try:
        return _raised(pidfd)
    finally:
        os.close(pidfd)


def _memory_file(data: bytes) -> int:
    fd = os.memfd_create("dremioframe-boot", os.MFD_CLOEXEC)
    try:
        at = 0
        while at < len(data):
            at += os.pwrite(fd, data[at:], at)
        return _raised(fd)
    finally:
        os.close(fd)


def _raised(fd: int) -> int:
    """A copy of ``fd`` above the numbers that the zygote expects; it shares nothing with what lies on those here."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE)


def _open_fds() -> list[int]:
    """Those that this process may name: one above the limit was opened before that was lowered, and is left alone."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd < limit or limit == resource.RLIM_INFINITY]


def _inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError as error:
        if error.errno == errno.EBADF:
            return False
        raise
