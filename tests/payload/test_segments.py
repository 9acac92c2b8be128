"""Sealed shared memory: what it promises to writers, readers and the table of descriptors."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import resource
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from dremioframe.orchestration.payload import segments
from dremioframe.orchestration.payload.segments import Segment, SegmentError

if TYPE_CHECKING:
    from pathlib import Path


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> object:
    gc.collect()
    before = len(descriptors())
    yield
    gc.collect()
    assert len(descriptors()) == before


def test_written_and_read() -> None:
    segment = Segment.create([b"abc", bytearray(b"def"), memoryview(b"xghix")[1:4], b""], 9)
    assert segment.size == 9
    assert segment.read() == b"abcdefghi"
    assert bytes(segment.map()) == b"abcdefghi"
    segment.close()


def test_name_is_shown_to_those_who_look() -> None:
    segment = Segment.create([b"x"], 1, "mine")
    assert os.readlink(f"/proc/self/fd/{segment.fd}").startswith("/memfd:mine")
    segment.close()


def test_seals_hold() -> None:
    segment = Segment.create([b"abc"], 3)
    for attempt in (
        lambda: os.pwrite(segment.fd, b"x", 0),
        lambda: os.ftruncate(segment.fd, 1),
        lambda: os.ftruncate(segment.fd, 10),
        lambda: mmap.mmap(segment.fd, 3, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
        lambda: segments.fcntl.fcntl(segment.fd, segments.fcntl.F_ADD_SEALS, 0x10),
    ):
        with pytest.raises(OSError) as caught:
            attempt()
        assert caught.value.errno in {errno.EPERM, errno.EACCES}
    assert segment.read() == b"abc"
    segment.close()


def test_descriptor_is_not_inherited() -> None:
    segment = Segment.create([b"x"], 1)
    assert not os.get_inheritable(segment.fd)
    segment.close()


def test_p12_mappings_are_writable_and_isolated() -> None:
    segment = Segment.create([b"abc"], 3)
    one, two = segment.map(), segment.map()
    one[0] = ord("x")
    assert bytes(one) == b"xbc"
    assert bytes(two) == segment.read() == b"abc"
    one.release()
    two.release()
    segment.close()


def test_p14_a_mapping_outlives_the_segment() -> None:
    segment = Segment.create([b"a" * 100_000], 100_000)
    view = segment.map()[5:10]
    segment.close()
    assert bytes(view) == b"aaaaa"
    view[0] = 0
    del view


def test_closing_twice_and_dropping() -> None:
    segment = Segment.create([b"x"], 1)
    segment.close()
    segment.close()
    assert segment.fd == -1
    Segment.create([b"x"], 1)  # dropped: the fixture counts


def test_empty_segment() -> None:
    segment = Segment.create([], 0)
    assert segment.read() == b""
    assert len(segment.map()) == 0
    segment.close()


@pytest.mark.parametrize("size", [2, 4])
def test_parts_of_another_size_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="3 bytes long, not"):
        Segment.create([b"abc"], size)


def test_adopted_from_another_descriptor() -> None:
    first = Segment.create([b"abc"], 3)
    second = Segment.adopt(os.dup(first.fd))
    first.close()
    assert second.size == 3
    assert second.read() == b"abc"
    second.close()


def test_what_is_not_sealed_is_refused_and_closed(tmp_path: Path) -> None:
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    left, right = socket.socketpair()
    unsealed = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    unsealable = os.memfd_create("x")
    with right:
        for fd in (file, left.detach(), unsealed, unsealable):
            with pytest.raises(SegmentError, match=f"descriptor {fd}"):
                Segment.adopt(fd)
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(fd)


def test_many_parts_and_large_parts_take_several_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [bytes([n % 256]) * (n % 7) for n in range(5000)]
    expected = b"".join(parts)
    segment = Segment.create(parts, len(expected))
    assert segment.read() == expected
    segment.close()
    monkeypatch.setattr(segments, "_WRITE_LIMIT_BYTES", 10)
    segment = Segment.create([expected, b"", expected[:5]], len(expected) + 5)
    assert segment.read() == expected + expected[:5]
    segment.close()


def test_what_is_left_after_a_partial_write() -> None:
    batch = [memoryview(b"abc"), memoryview(b""), memoryview(b"defg")]
    for written in range(8):
        assert b"".join(segments._rest(batch, written)) == b"abcdefg"[written:]


def test_no_descriptor_left() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unused = os.dup(0)
    os.close(unused)
    resource.setrlimit(resource.RLIMIT_NOFILE, (unused, hard))
    try:
        with pytest.raises(OSError) as caught:
            Segment.create([b"x"], 1)
        assert caught.value.errno == errno.EMFILE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_file_that_may_not_grow_is_an_error_and_no_signal() -> None:
    script = """
import os, resource, signal
from dremioframe.orchestration.payload.segments import Segment
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
before = len(os.listdir("/proc/self/fd"))
for parts in ([bytes(20_000)], [bytes(9_000), bytes(9_000)]):
    try:
        Segment.create(parts, sum(map(len, parts)))
    except OSError as error:
        print(error.errno, len(os.listdir("/proc/self/fd")) - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [str(errno.EFBIG), "0"] * 2
