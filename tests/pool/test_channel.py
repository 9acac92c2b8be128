"""The odd answers of the kernel, each provoked for real."""

from __future__ import annotations

import os
import resource

import pytest

from dremioframe.orchestration.pool import channel, frames
from dremioframe.orchestration.pool.channel import Closed, OutOfDescriptors


@pytest.fixture
def ends():
    a, b = channel.pair()
    yield a, b
    a.close()
    b.close()


def test_packets_keep_their_borders(ends):
    a, b = ends
    assert a.send(b"one")
    assert a.send(b"twotwo")
    assert b.receive(100) == b"one"
    assert b.receive(3) == b"two"
    assert b.receive(100) is None


def test_the_longest_packet(ends):
    a, b = ends
    assert a.send(b"x" * frames.PACKET_LIMIT)
    assert len(b.receive(frames.PACKET_LIMIT + 1)) == frames.PACKET_LIMIT


def test_a_full_channel_says_later(ends):
    a, b = ends
    sent = 0
    while a.send(b"x" * 10_000):
        sent += 1
    assert sent > 10
    assert b.receive(20_000) == b"x" * 10_000
    assert a.send(b"room again")


def test_the_end(ends):
    a, b = ends
    a.send(b"last")
    a.hang_up()
    assert b.receive(10) == b"last"
    assert b.receive(10) == b""
    with pytest.raises(Closed):
        b.send(b"x")


def test_hanging_up_works_while_somebody_holds_a_copy(ends):
    a, b = ends
    copy = os.dup(a.fd)
    a.hang_up()
    a.hang_up()
    assert b.receive(10) == b""
    os.close(copy)


def test_an_end_with_unread_packets_does_not_hide_what_it_sent():
    """The kernel says ECONNRESET once, before what is left to read."""
    for receive in (lambda end: end.receive(10), lambda end: (end.receive_with(10, 1) or (None,))[0]):
        a, b = channel.pair()
        a.send(b"never read")
        b.send(b"sent before the end")
        b.close()
        assert receive(a) == b"sent befor"
        assert receive(a) == b""
        a.close()


def test_an_end_with_unread_packets_between_the_look_at_a_packet_and_its_taking():
    """Then it is the taking that the kernel answers with ECONNRESET."""

    class EndsAfterTheLook:
        def __init__(self, sock, other):
            self.sock, self.other = sock, other
            self.recv = sock.recv

        def recvmsg(self, *args):
            looked = self.sock.recvmsg(*args)
            self.other.close()
            return looked

    a, b = channel.pair()
    a.send(b"never read")
    b.send(b"first")
    b.send(b"second")
    sock = a._socket
    a._socket = EndsAfterTheLook(sock, b)
    assert a.receive_with(10, 1) == (b"first", ())
    a._socket = sock
    assert a.receive_with(10, 1) == (b"second", ())
    assert a.receive_with(10, 1) == (b"", ())
    a.close()


def test_descriptors_travel(ends):
    a, b = ends
    read, write = os.pipe()
    assert a.send_with(b"pipe", (read, write))
    packet, fds = b.receive_with(10, 2)
    assert packet == b"pipe"
    os.write(fds[1], b"through")
    assert os.read(read, 10) == b"through"
    assert not any(os.get_inheritable(fd) for fd in fds)
    assert b.receive_with(10, 2) is None
    channel.close_all([read, write, *fds])


def test_without_a_free_descriptor_nothing_is_lost(ends):
    a, b = ends
    assert a.send_with(b"precious", (a.fd,))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest_free = os.dup(0)
    os.close(highest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest_free, limits[1]))
    try:
        for _ in range(3):
            with pytest.raises(OutOfDescriptors):
                b.receive_with(10, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    packet, fds = b.receive_with(10, 1)
    assert packet == b"precious"
    channel.close_all(fds)


def test_a_copy_of_the_other_end_takes_packets_back(ends):
    a, b = ends
    copy = channel.adopt(os.dup(b.fd))
    a.send(b"first")
    a.send(b"second")
    assert b.receive(10) == b"first"
    assert copy.receive(10) == b"second"
    assert copy.receive(10) is None
    assert b.receive(10) is None
    copy.close()


def test_identity(ends):
    a, b = ends
    mine = a.identity()
    assert a.identity() == mine != b.identity()
    keep = os.dup(a.fd)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, a.fd)
    with pytest.raises(OSError, match="non-socket"):
        a.identity()
    os.dup2(b.fd, a.fd)
    assert a.identity() != mine
    os.dup2(keep, a.fd)
    assert a.identity() == mine
    channel.close_all([keep, null])


def test_more_descriptors_than_allowed_are_dropped(ends):
    a, b = ends
    before = len(os.listdir("/proc/self/fd"))
    a.send_with(b"greedy", (0, 1, 2, 0, 1))
    assert b.receive_with(10, 1) == (b"greedy", ())
    assert b.receive_with(10, 1) is None
    assert len(os.listdir("/proc/self/fd")) == before
