"""Children that fall out of a call, and what a call does to its worker's channel. Fault ids U18, U19."""

from __future__ import annotations

import socket

import pytest
from pool_client import same_worker

from dremioframe.orchestration.pool.events import CallLost

LIMIT_S = 20.0


def test_u18_a_forked_child_that_falls_out_of_the_call(client, pid):
    source = """
        import os
        child = os.fork()
        out = b"parent" if child else b"child"
    """
    for _ in range(5):
        assert client.run(source) == b"parent"
    assert same_worker(client, pid)


def test_u18_a_forked_child_sends_no_second_outcome(client, pid):
    """It falls out late and with more seconds of CPU than the worker has used, so that nothing else stops it."""
    source = """
        import os, resource
        def used(): return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        limit = used() + 0.01
        child = os.fork()
        while not child and used() < limit: pass
        out = str(child).encode()
    """
    child = int(client.run(source))
    assert client.run(f"import os; out = repr(os.waitpid({child}, 0)).encode()") == repr((child, 0)).encode()
    assert same_worker(client, pid)


def test_u18_a_forked_child_that_raises_out_of_the_call(client, pid):
    source = """
        import os
        if os.fork() == 0:
            raise SystemExit(3)
        out = b"parent"
    """
    assert client.run(source) == b"parent"
    assert same_worker(client, pid)


def test_u18_a_forked_child_may_not_ask(client, pid):
    source = """
        import os
        read, write = os.pipe()
        if os.fork() == 0:
            try:
                ports.request(b"x")
            except Exception as error:
                os.write(write, str(error).encode())
            os._exit(0)
        out = os.read(read, 1000)
    """
    assert b"forked by a task" in client.run(source)
    assert same_worker(client, pid)


@pytest.mark.parametrize(
    "source",
    [
        "import os; os.closerange(3, 1024)",
        "import os; os.close(INBOX)",
        "import os; file = os.open(PATH, os.O_RDWR | os.O_CREAT); os.dup2(file, INBOX)",
        "import os; os.close(INBOX); file = os.open(PATH, os.O_RDWR | os.O_CREAT); assert file == INBOX",
        "import os, socket; a, b = socket.socketpair(); os.dup2(a.fileno(), INBOX); keep = (a, b)",
    ],
)
def test_u19_a_closed_or_replaced_channel_costs_the_worker_and_nothing_is_written_to_its_number(
    client, tmp_path, source
):
    path = tmp_path / "users-file"
    find = f"""
import os, stat
PATH = {str(path)!r}
INBOX = min(fd for fd in map(int, os.listdir("/proc/self/fd"))
            if fd > 2 and os.path.exists(f"/proc/self/fd/{{fd}}") and stat.S_ISSOCK(os.stat(fd).st_mode))
"""
    event = client.end(client.submit(find + source))
    assert isinstance(event, CallLost)
    assert "closed or replaced by the task" in event.description
    assert not path.exists() or path.read_bytes() == b""
    assert client.run("out = b'next'") == b"next"


@pytest.mark.parametrize("waiting", [0, 3])
@pytest.mark.usefixtures("sent_ahead")
def test_u19_a_channel_that_is_shut_down_costs_the_worker_only(client, waiting):
    """The coordinator's copy of the worker's end is shut down with it: where calls are taken back there is the end."""
    for _ in range(5):
        client.run("pass")
    source = """
        import os, socket, stat, time
        inbox = min(fd for fd in map(int, os.listdir("/proc/self/fd"))
                    if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}") and stat.S_ISSOCK(os.stat(fd).st_mode))
        ports.request(b"held until all are there")
        socket.socket(fileno=os.dup(inbox)).shutdown(socket.SHUT_RDWR)
        time.sleep(600)
    """
    call_id = client.submit(source)
    others = [client.submit(f"out = b'{n}'") for n in range(waiting)]
    event = client.end(call_id)
    assert isinstance(event, CallLost)
    assert "shut down by the task" in event.description
    assert [bytes(client.end(other).payload) for other in others] == [b"%d" % n for n in range(waiting)]
    assert client.run("out = b'next'") == b"next"


def test_u19_nothing_is_written_to_a_socket_in_the_channels_place(client, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(path)
        listening.listen()
        listening.settimeout(LIMIT_S)
        source = f"""
            import os, socket, stat
            inbox = min(fd for fd in map(int, os.listdir("/proc/self/fd"))
                        if fd > 2 and os.path.exists(f"/proc/self/fd/{{fd}}") and stat.S_ISSOCK(os.stat(fd).st_mode))
            users = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            users.connect({path!r})
            os.dup2(users.fileno(), inbox)
        """
        call_id = client.submit(source)
        users, _ = listening.accept()
        with users:
            users.settimeout(LIMIT_S)
            assert users.recv(1000) == b""  # its end, and nothing before
    event = client.end(call_id)
    assert isinstance(event, CallLost)
    assert "closed or replaced by the task" in event.description


def test_u19_a_closed_side_channel_is_told_to_who_asks(client):
    source = """
        import os, stat
        sockets = [fd for fd in map(int, os.listdir("/proc/self/fd"))
                   if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}") and stat.S_ISSOCK(os.stat(fd).st_mode)]
        os.close(sockets[1])
        try:
            ports.request(b"x")
        except Exception as error:
            out = str(error).encode()
    """
    assert b"closed the worker's side channel" in client.run(source)


def test_u19_no_question_goes_to_a_socket_in_the_side_channels_place(client):
    source = """
        import os, socket, stat
        sockets = [fd for fd in map(int, os.listdir("/proc/self/fd"))
                   if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}") and stat.S_ISSOCK(os.stat(fd).st_mode)]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.shutdown(socket.SHUT_WR)  # who asks there gets no answer, but sees an end
        os.dup2(ours.fileno(), sockets[1])
        try:
            ports.request(b"x")
        except Exception:
            pass
        try:
            out = theirs.recv(100, socket.MSG_DONTWAIT)
        except BlockingIOError:
            out = b"nothing"
    """
    assert client.run(source) == b"nothing"
