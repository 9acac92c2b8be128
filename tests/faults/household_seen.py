"""A household (see there) as a scenario has it: started on a terminal of its own, watched, looked through afterwards.

Every process of it carries a mark in its environment, which no ``setsid`` and no change of parent takes away; that is
how it is known who is left.
"""

from __future__ import annotations

import os
import pty
import random
import select
import signal
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable

_PROGRAM = str(Path(__file__).with_name("household.py"))
_ROLES = ("child", "grandchild", "apart", "daemon", "worker")
_LIMIT_S = 25.0
#: In which time after its first line a household of two families is complete, on an idle machine.
_GROWING_UP_S = 0.5
#: How often it is asked for what the kernel has no event for: the ends of processes that are not known by number.
_ASK_AGAIN_S = 0.005


class Seconds(float):
    """How long it took; ``survivors`` says how many processes were left that may be."""

    survivors = 0


class Guards(NamedTuple):
    """Who cleans up after the workers: the fork server, and its parent; and the sessions of all of them."""

    sentry: int
    server: int
    sessions: set[int]


class Household:
    """A coordinator in a program of its own, in the foreground of a terminal of its own."""

    def __init__(self, ending: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="household-")
        self._path = self._folder.name
        for name in ("spill", "tmp"):
            os.mkdir(f"{self._path}/{name}")
        for name in ("told", "go"):
            os.mkfifo(f"{self._path}/{name}")
        self._mark = uuid.uuid4().hex.encode()
        self._shm = _shared_memory()
        self._cut = b""
        self._pidfds: dict[int, int] = {}
        self.told: list[str] = []
        self.printed = ""
        self.exit_code: int | None = None
        self._fifo = os.open(f"{self._path}/told", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        self._go = os.open(f"{self._path}/go", os.O_RDWR | os.O_CLOEXEC)
        environ = {**os.environ, "HOUSEHOLD_MARK": self._mark.decode(), "TMPDIR": f"{self._path}/tmp"}
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            try:
                os.execve(sys.executable, [sys.executable, _PROGRAM, self._path, ending], environ)
            finally:
                os._exit(127)
        self._watch(self.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for pid in self._marked():
                self._watch(pid)
            for pidfd in self._pidfds.values():
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            self._until(lambda: not self._pidfds and not self._marked(), "the end of what was killed")
        finally:
            self._reap()
            for fd in (*self._pidfds.values(), self._fifo, self._go, self._terminal):
                if fd >= 0:
                    os.close(fd)
            self._folder.cleanup()

    # ------------------------------------------------------------------------------------------------ up to the moment

    def await_moment(self, seed: int | None) -> None:
        """Until the families are complete, or until a random moment before or shortly after."""
        if seed is None:
            self.await_families()
        else:
            self.await_told({"begin": 1})
            self.listen_for(random.Random(seed).uniform(0, _GROWING_UP_S))

    def await_families(self) -> None:
        self.await_told(dict.fromkeys(_ROLES, 2))

    def await_told(self, wanted: dict[str, int]) -> None:
        """Until the household has told of so many of each."""
        self._until(lambda: all(self.count(role) >= count for role, count in wanted.items()), str(wanted))

    def listen_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._listen(left)

    def count(self, role: str) -> int:
        """How many have told that they are this, or have done that."""
        return sum(line.split()[0] == role for line in self.told)

    def note_processes(self) -> None:
        """Watch all that there are now, so that their ends are events."""
        for pid in self._marked():
            self._watch(pid)

    def freeze_guards(self) -> Guards:
        """Stop the fork server, so that it makes no worker any more; gives who is who."""
        found: list[Guards] = []

        def find() -> bool:
            servers = {pid: _parent(pid) for pid in self._marked() if b"pool.zygote" in _command(pid)}
            sentries = [pid for pid, parent in servers.items() if parent == self.pid]
            found[:] = [Guards(parent, pid, set()) for pid, parent in servers.items() if parent in sentries]
            return bool(found)

        self._until(find, "a fork server")
        [guards] = found
        os.kill(guards.server, signal.SIGSTOP)
        self._until(lambda: _stat(guards.server)[0] == "T", "the fork server to be stopped")
        workers = {pid for pid in self._marked() if _parent(pid) == guards.server}
        return Guards(guards.sentry, guards.server, {guards.sentry, guards.server, *workers})

    def press(self, key: str) -> None:
        """At the terminal, as long as anybody has it open."""
        if self._terminal >= 0:
            os.write(self._terminal, key.encode())

    def close_terminal(self) -> None:
        os.close(self._terminal)
        self._terminal = -1

    def let_go_on(self) -> None:
        """Whoever waits for it, at most two."""
        os.write(self._go, b"go")

    # ------------------------------------------------------------------------------------------------------- afterwards

    def until_clean(self, began: float) -> Seconds:
        """Wait for the end of every process, then look for what else there may be."""
        self._until(lambda: not self._pidfds, "the end of the processes that were there")
        self._until(lambda: not self._marked(), "the end of those that were born meanwhile")
        seconds = Seconds(time.monotonic() - began)
        self._reap()
        self.check_files()
        return seconds

    def until_gone(self, sessions: set[int]) -> None:
        """Wait until no process is left in these sessions."""
        self._until(lambda: not any(_session(pid) in sessions for pid in self._marked()), f"the end of {sessions}")

    def until_no_server(self) -> None:
        """Wait until nothing runs that was forked from the fork server and has not become another program."""
        self._until(
            lambda: not any(b"pool.zygote" in _command(pid) for pid in self._marked()), "the end of all workers"
        )

    def until_ended(self) -> None:
        """Wait for the coordinator."""
        self._until(lambda: self.pid not in self._pidfds, "the end of the coordinator")
        self._reap()

    def until_nobody(self) -> None:
        """End the coordinator, and wait until nobody lives on: it may have been about to make a new fork server."""
        self._end_coordinator()
        self._until(lambda: not self._marked(), "the end of all")

    def count_survivors(self) -> int:
        """End the coordinator; gives how many live on then."""
        self._end_coordinator()
        self.until_no_server()
        return len(self._marked())

    def _end_coordinator(self) -> None:
        if self.pid in self._pidfds:
            signal.pidfd_send_signal(self._pidfds[self.pid], signal.SIGKILL)
        self.until_ended()

    def check_interrupted(self, seed: int | None) -> None:
        """It has caught KeyboardInterrupt, and gone on.

        At a random moment this may have been in an import that evaluates text (a named tuple). CPython ends itself by
        SIGINT after that when the program is over, although the interrupt was caught.
        """
        assert "interrupted" in self.printed, self.printed
        assert self.exit_code in ({0} if seed is None else {0, -signal.SIGINT}), (self.exit_code, self.printed)
        self.check_kept()

    def check_kept(self) -> None:
        """A coordinator that lives on has looked at itself: no descriptor and no child is left."""
        assert [line for line in self.told if line.startswith("kept")] == ["kept nothing"], self.told

    def check_files(self) -> None:
        """No file is left, neither in memory nor on disk."""
        for name in ("spill", "tmp"):
            left = os.listdir(f"{self._path}/{name}")
            assert not left, (name, left)
        assert not _shared_memory() - self._shm, _shared_memory() - self._shm

    # ----------------------------------------------------------------------------------------------------------- inside

    def _marked(self) -> list[int]:
        """Who is left. Asked twice: while a process becomes another program its environment cannot be read."""
        for _ in range(2):
            found = [int(name) for name in os.listdir("/proc") if name.isdigit() and self._mark in _environ(name)]
            if found:
                return found
        return []

    def _watch(self, pid: int) -> None:
        if pid not in self._pidfds:
            try:
                self._pidfds[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                return

    def _until(self, true: Callable[[], object], what: str) -> None:
        end = time.monotonic() + _LIMIT_S
        while not true():
            if time.monotonic() > end:
                left = [(pid, _stat(pid), _command(pid)[-60:]) for pid in self._marked()]
                raise AssertionError(f"waited in vain for {what}; left: {left}; told: {self.told}; {self.printed}")
            self._listen(_ASK_AGAIN_S)

    def _listen(self, timeout_s: float) -> None:
        """Wait for lines, for output and for ends."""
        poll = select.poll()
        poll.register(self._fifo, select.POLLIN)
        if self._terminal >= 0:
            poll.register(self._terminal, select.POLLIN)
        for pidfd in self._pidfds.values():
            poll.register(pidfd, select.POLLIN)
        heard = {fd for fd, _ in poll.poll(timeout_s * 1000)}
        if self._fifo in heard:
            lines = (self._cut + os.read(self._fifo, 65536)).split(b"\n")
            self._cut = lines.pop()
            self.told += [line.decode() for line in lines]
        if self._terminal in heard:
            self._read_terminal()
        for pid, pidfd in list(self._pidfds.items()):
            if pidfd in heard:
                os.close(self._pidfds.pop(pid))

    def _read_terminal(self) -> None:
        try:
            text = os.read(self._terminal, 65536)
        except OSError:  # nobody has it open any more
            text = b""
        self.printed += text.decode(errors="replace")
        if not text:
            self.close_terminal()

    def _reap(self) -> None:
        if self.exit_code is None:
            self.exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self._listen(0)
            while self._terminal >= 0 and select.select([self._terminal], [], [], 0)[0]:
                self._read_terminal()


def _environ(pid: int | str) -> bytes:
    return _read(pid, "environ")


def _command(pid: int) -> bytes:
    return _read(pid, "cmdline")


def _read(pid: int | str, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:  # gone, or somebody else's
        return b""


def _stat(pid: int) -> tuple[str, int, int]:
    """State, parent and session; nothing of it if it is gone."""
    fields = _read(pid, "stat").rpartition(b") ")[2].split()
    return (fields[0].decode(), int(fields[1]), int(fields[3])) if fields else ("", 0, 0)


def _parent(pid: int) -> int:
    return _stat(pid)[1]


def _session(pid: int) -> int:
    return _stat(pid)[2]


def _shared_memory() -> set[str]:
    """What of ours has a name in shared memory; other programs are none of our business."""
    return {name for name in os.listdir("/dev/shm") if "dremio" in name}
