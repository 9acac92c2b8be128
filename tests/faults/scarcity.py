"""Makes the Nth call of one kind fail, in one of the three processes. Imported by each of them (a preload module).

What lives here: the calls and how they fail. Armed by the environment variable ``SCARCITY=place:call:N:claim``; the
first process of that place whose Nth call it is creates the file ``claim``, and only that one fails.
"""

from __future__ import annotations

import _socket
import builtins
import errno
import gc
import mmap
import os
import select
from functools import partial

VARIABLE = "SCARCITY"
_ERRORS = {
    "open": errno.EMFILE,
    "socketpair": errno.EMFILE,
    "memfd_create": errno.EMFILE,
    "pwritev": errno.ENOSPC,
    "mmap": errno.ENOMEM,
    "fork": errno.EAGAIN,
    "posix_spawn": errno.EAGAIN,
    "send": errno.ENOBUFS,
    "sendmsg": errno.ETOOMANYREFS,
    "register": errno.ENOSPC,
    "epoll": errno.EMFILE,
    "pidfd_open": errno.EMFILE,
    "eventfd": errno.EMFILE,
    "eventfd_write": errno.EAGAIN,
    "pwrite": errno.ENOSPC,
    "truncate": errno.ENOSPC,
}
CALLS = tuple(_ERRORS)

_zygote_pid = 0


# The tasks of the run; here, so that workers have them without another import.


def long_result() -> bytes:
    return b"x" * 200_000


def fail_once(context) -> int:
    if context.attempt == 1:
        raise RuntimeError("the first time")
    return context.attempt


def fail() -> None:
    raise ValueError("as it should")


def read(context) -> int:
    return len(context["long"]) + len(context["given"])


class _Scarcity:
    """Counts the calls of one kind in this process, and fails the Nth."""

    def __init__(self, place: str, call: str, nth: int, claim: str) -> None:
        self.place, self.call, self.nth, self.claim = place, call, nth, claim
        self.counts: dict[int, int] = {}

    def here(self) -> bool:
        if self.place == "coordinator":
            return True
        return (os.getpid() == _zygote_pid) == (self.place == "zygote")

    def count(self) -> None:
        if not self.here():
            return
        pid = os.getpid()
        self.counts[pid] = self.counts.get(pid, 0) + 1
        if self.counts[pid] != self.nth:
            return
        try:
            os.close(_os_open(self.claim, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        code = _ERRORS[self.call]
        raise OSError(code, os.strerror(code))


_os_open = os.open


def _wrapped(scarcity: _Scarcity, function):
    def call(*args, **kwargs):
        scarcity.count()
        return function(*args, **kwargs)

    return call


def _epoll_class(scarcity: _Scarcity, name: str):
    real = select.epoll

    class Epoll:
        def __init__(self, *args) -> None:
            if name == "epoll":
                scarcity.count()
            self._real = real(*args)

        def register(self, *args) -> None:
            if name == "register":
                scarcity.count()
            self._real.register(*args)

        def __getattr__(self, name: str):
            return getattr(self._real, name)

    return Epoll


def _socket_class(scarcity: _Scarcity, name: str):
    class Socket(_socket.socket):
        __slots__ = ()  # the standard library derives from it, too

        def send(self, *args):
            if name == "send":
                scarcity.count()
            return super().send(*args)

        def sendmsg(self, *args):
            if name == "sendmsg":
                scarcity.count()
            return super().sendmsg(*args)

    return Socket


def _patch(undo: list[tuple[object, str, object]], owner: object, name: str, new: object) -> None:
    from dremioframe.orchestration.payload import segments

    old = getattr(owner, name)
    undo.append((owner, name, old))
    setattr(owner, name, new)
    if getattr(segments, f"_{name}", None) is old:  # it has bound what it needs at import
        _patch(undo, segments, f"_{name}", new)


def arm(place: str, call: str, nth: int, claim: str):
    """Patch this process; returns how to undo it."""
    from dremioframe.orchestration.pool import channel

    scarcity = _Scarcity(place, call, nth, claim)
    undo: list[tuple[object, str, object]] = []
    patch = partial(_patch, undo)

    match call:
        case "open":
            patch(os, "open", _wrapped(scarcity, os.open))
            patch(builtins, "open", _wrapped(scarcity, builtins.open))
        case "socketpair":
            patch(_socket, "socketpair", _wrapped(scarcity, _socket.socketpair))
        case "mmap":
            patch(mmap, "mmap", _wrapped(scarcity, mmap.mmap))
        case "register" | "epoll":
            patch(select, "epoll", _epoll_class(scarcity, call))
        case "send" | "sendmsg":
            sockets = _socket_class(scarcity, call)
            patch(channel._socket, "socket", sockets)
            real_pair = _socket.socketpair

            def pair(*args):
                return tuple(sockets(end.family, end.type, 0, end.detach()) for end in real_pair(*args))

            patch(channel._socket, "socketpair", pair)
            for held in gc.get_objects():  # the fork server has its channel by now
                if type(held) is channel.Channel:
                    held._socket = sockets(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, held._socket.detach())
        case _:
            patch(os, call, _wrapped(scarcity, getattr(os, call)))

    def disarm() -> None:
        for owner, name, old in reversed(undo):
            setattr(owner, name, old)

    return disarm


def arm_as_said() -> None:
    """In the fork server, when this is preloaded there; its workers inherit it."""
    global _zygote_pid
    said = os.environ.get(VARIABLE, "")
    if said and not said.startswith("coordinator"):
        place, call, nth, claim = said.split(":", 3)
        _zygote_pid = os.getpid()
        arm(place, call, int(nth), claim)
