"""One end of a private SOCK_SEQPACKET socket pair: the only file that sends and receives.

What lives here: the system calls and what each of their odd answers means. What may not: the format of packets
(``frames``) and what is done about them.

Rules of the road, each one learnt the hard way:

- A packet is sent whole or not at all and received whole or cut: no partial reads, no lock around a write.
- The coordinator never changes a socket's blocking mode: O_NONBLOCK belongs to the description, which it shares with
  the worker for its copy of the worker's end. MSG_DONTWAIT belongs to the call.
- A full socket, too many descriptors in flight and a kernel short of buffers all mean the same: later.
- An empty packet cannot be told from the end, so none is ever sent.
- With no free descriptor left the kernel delivers a packet without the descriptor that came with it, and both are gone.
  So a packet that may carry one is looked at first (MSG_PEEK hands out copies) and consumed only when that went well.
- When a process dies with unread packets in a socket, its peer gets ECONNRESET once, *before* what is left to read.

``_socket`` is the C part of ``socket``; the Python part adds nothing used here and imports ``selectors``; loading both
takes longer than starting a worker.
"""

from __future__ import annotations

import _socket
import errno
import select
import struct
from time import sleep as _sleep  # bound now: a task may replace it in its module

from .. import failpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_DONTWAIT = _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL
_SO_COOKIE = 57  # asm-generic/socket.h; not in the socket module
_BUFFER_BYTES = 212_992
_BUSY = frozenset((errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM))
_BREATH_S, _TRIES = 0.01, 1000
_GONE = frozenset((errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN))


class Closed(Exception):
    """The other end is gone."""


class OutOfDescriptors(Exception):
    """A descriptor is waiting in the channel and this process has no number left for it. Nothing was consumed."""


class Channel:
    """One end of a socket pair.

    Attributes:
        fd: Its descriptor, for epoll.
    """

    __slots__ = ("_socket", "fd")

    def __init__(self, sock: _socket.socket) -> None:
        self._socket = sock
        self.fd = sock.fileno()

    def send(self, packet: bytes) -> bool:
        """Send without waiting; False means later.

        Raises:
            Closed: Nobody is there to read it.
        """
        try:
            self._socket.send(packet, _DONTWAIT)
        except OSError as error:
            return _later(error)
        return True

    def send_with(self, packet: bytes, fds: tuple[int, ...]) -> bool:
        """As :meth:`send`, with copies of these descriptors."""
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))
        try:
            self._socket.sendmsg((packet,), (rights,), _DONTWAIT)
        except OSError as error:
            return _later(error)
        return True

    def has_room(self) -> bool:
        """Whether the other side has read enough for a packet to be sent."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        return bool(poll.poll(0))

    def receive(self, size: int) -> bytes | None:
        """The next packet, cut to ``size`` bytes; None if there is none, ``b""`` if there will never be one."""
        try:
            return self._socket.recv(size, _DONTWAIT)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return self.receive(size)  # said once; what was sent before is still there to be read

    def receive_with(self, size: int, fd_count: int) -> tuple[bytes, tuple[int, ...]] | None:
        """As :meth:`receive`, for a packet that may carry up to ``fd_count`` descriptors.

        Raises:
            OutOfDescriptors: They could not be taken over; the packet is still there.
        """
        flags = _DONTWAIT | _socket.MSG_PEEK | _socket.MSG_CMSG_CLOEXEC
        try:
            packet, ancillary, flags, _ = self._socket.recvmsg(size, _socket.CMSG_SPACE(4 * fd_count), flags)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return self.receive_with(size, fd_count)
        fds = tuple(fd for _, _, data in ancillary for (fd,) in struct.iter_unpack("i", data[: len(data) & ~3]))
        if flags & _socket.MSG_CTRUNC:
            close_all(fds)
            if len(fds) < fd_count and not (failpoints.armed and failpoints.hit("channel.out_of_descriptors")):
                raise OutOfDescriptors
            fds = ()  # there were more than there may be: a packet of no use, but not one to wait for
        elif len(fds) > fd_count:  # room for one is, by its alignment, room for two
            close_all(fds)
            fds = ()
        if packet:
            self.receive(1)  # consumes the packet, and the kernel's own copies of the descriptors
        return packet, fds

    def send_waiting(self, packet: bytes) -> None:
        """Send, however long it takes the other side to read; for a kernel short of buffers it waits ten seconds."""
        try:
            self._socket.send(packet, _socket.MSG_NOSIGNAL)
        except OSError as error:
            _again(error, lambda: self._socket.send(packet, _socket.MSG_NOSIGNAL))

    def send_with_waiting(self, packet: bytes, fd: int) -> None:
        """As :meth:`send_waiting`, with a copy of this descriptor."""
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", fd))
        try:
            self._socket.sendmsg((packet,), (rights,), _socket.MSG_NOSIGNAL)
        except OSError as error:
            _again(error, lambda: self._socket.sendmsg((packet,), (rights,), _socket.MSG_NOSIGNAL))

    def receive_into_waiting(self, buffer: bytearray) -> int:
        """Wait for a packet; returns its length, 0 for the end."""
        return self._socket.recv_into(buffer)

    def receive_with_waiting(self, size: int) -> tuple[bytes, int | None]:
        """Wait for a packet that may carry one descriptor.

        Raises:
            OutOfDescriptors: It did, and it is lost: the owner of this end waits for exactly this packet.
        """
        flags = _socket.MSG_CMSG_CLOEXEC
        packet, ancillary, flags, _ = self._socket.recvmsg(size, _socket.CMSG_LEN(4), flags)
        fds = [struct.unpack("i", data)[0] for _, _, data in ancillary]
        if flags & _socket.MSG_CTRUNC:
            close_all(fds)
            raise OutOfDescriptors
        return packet, (fds[0] if fds else None)

    def identity(self) -> bytes:
        """A value that no other socket of this boot has.

        Raises:
            OSError: The descriptor has been closed, or is no socket any more.
        """
        return self._socket.getsockopt(_socket.SOL_SOCKET, _SO_COOKIE, 8)

    def hang_up(self) -> None:
        """End the connection for both sides, whoever else holds a copy of this end."""
        try:
            self._socket.shutdown(_socket.SHUT_RDWR)
        except OSError as error:
            if error.errno not in _GONE:
                raise

    def close(self) -> None:
        """Give the descriptor back."""
        self._socket.close()


def pair() -> tuple[Channel, Channel]:
    """A new socket pair, close-on-exec."""
    ends = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    for end in ends:
        # The default may have been lowered on this machine; a packet must fit in whole.
        end.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, _BUFFER_BYTES)
    return Channel(ends[0]), Channel(ends[1])


def adopt(fd: int) -> Channel:
    """The channel behind a descriptor that was received or inherited."""
    return Channel(_socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd))


def close_all(fds: tuple[int, ...] | list[int]) -> None:
    """Close descriptors that were received and are not wanted."""
    for fd in fds:
        _socket.close(fd)


def _again(error: OSError, send: Callable[[], int]) -> None:
    """A blocking socket waits for its reader by itself, but not for the kernel's memory."""
    for _ in range(_TRIES):
        if error.errno not in _BUSY:
            break
        _sleep(_BREATH_S)
        try:
            send()
        except OSError as another:
            error = another
        else:
            return
    raise error


def _later(error: OSError) -> bool:
    if error.errno in _BUSY:
        return False
    if error.errno in _GONE:
        raise Closed from error
    raise error
