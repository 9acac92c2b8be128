"""What processes hold, as /proc tells it, against processes that hold what they were told to."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from dremioframe.orchestration.pool import footprint

MIB = 1 << 20


@pytest.fixture
def program():
    """Starts Python code and waits for its first line; ends it after the test."""
    started = []

    def start(code):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process, process.stdout.readline().split()

    yield start
    for process in started:
        process.stdin.close()
        process.stdout.read()
        process.wait()
        process.stdout.close()


def test_held_and_share_of_a_process_alone(program):
    process, _ = program("import sys; x = bytearray(64 << 20); print('ready', flush=True); sys.stdin.read()")
    assert 64 * MIB < footprint.held_bytes(process.pid) < 80 * MIB
    full, share, unshared = footprint.shared_out(process.pid)
    assert 64 * MIB < unshared <= share <= full < 80 * MIB
    assert footprint.peak_bytes(process.pid) > 64 * MIB
    assert footprint.command(process.pid).startswith("python")


FORKS = """
import os, sys
x = bytearray(64 << 20)
for _ in range(3):
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def test_pages_that_a_fork_shares_are_held_by_all_and_shared_out(program):
    process, _ = program(FORKS)
    [family] = footprint.descendants([(process.pid, 0)]).values()
    assert len(family) == 3
    tree = [process.pid, *family]
    assert sum(map(footprint.held_bytes, tree)) > 4 * 64 * MIB
    full, share, unshared = map(sum, zip(*map(footprint.shared_out, tree), strict=True))
    assert full > 4 * 64 * MIB
    assert 64 * MIB < share < 100 * MIB
    assert unshared < 40 * MIB


@pytest.mark.parametrize("content", [None, "", "Rss: 100 kB\n"])
def test_where_shares_are_not_added_up_each_has_what_it_holds(program, monkeypatch, tmp_path, content):
    """A kernel without ``smaps_rollup``, or with one that does not know of anonymous memory."""
    rollup = tmp_path / "smaps_rollup"
    if content is not None:
        rollup.write_text(content)
    process, _ = program(FORKS)
    monkeypatch.setattr(footprint, "_rollup", lambda pid: str(rollup))
    [family] = footprint.descendants([(process.pid, 0)]).values()
    for pid in (process.pid, *family):
        held = footprint.held_bytes(pid)
        assert held > 64 * MIB
        for size in footprint.shared_out(pid):
            assert abs(size - held) < MIB  # read one after the other, and the process goes on


def test_files_and_shared_memory_are_nobodys(program, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(32 * MIB))
    code = f"""
import mmap, sys
with open({str(path)!r}, "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
seen = mapped[::4096]
shared = mmap.mmap(-1, 32 << 20)
shared[::4096] = bytes(len(shared[::4096]))
print("ready", flush=True)
sys.stdin.read()
"""
    process, _ = program(code)
    assert footprint.held_bytes(process.pid) < 24 * MIB
    assert footprint.peak_bytes(process.pid) > 64 * MIB


def test_a_private_copy_of_a_mapped_input_counts_where_it_was_written_to(program, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(32 * MIB))
    code = f"""
import mmap, sys
with open({str(path)!r}, "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
mapped[::4096] = bytes(len(mapped[::4096]))
print("ready", flush=True)
sys.stdin.read()
"""
    process, _ = program(code)
    assert footprint.held_bytes(process.pid) > 32 * MIB


GENERATIONS = """
import os, sys
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
    sys.stdin.read()
    os._exit(0)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("has_lists", [False, footprint._has_lists()])
def test_descendants_of_descendants_but_not_those_from_before(program, monkeypatch, has_lists):
    monkeypatch.setattr(footprint, "_has_lists", lambda: has_lists)
    process, _ = program(GENERATIONS)
    end = time.monotonic() + 60
    while len(footprint.descendants([(process.pid, 0)])[process.pid]) < 2:  # nobody tells of a grandchild
        assert time.monotonic() < end
        time.sleep(0.005)
    later = footprint.ticks(time.monotonic_ns()) + 100
    assert footprint.descendants([(process.pid, later)]) == {process.pid: []}
    mine = footprint.descendants([(os.getpid(), 0), (process.pid, 0)])
    assert process.pid in mine[os.getpid()]
    assert set(mine[process.pid]) < set(mine[os.getpid()])


def test_a_process_that_is_gone_holds_nothing(program):
    process, _ = program("print('ready')")
    process.stdin.close()
    process.stdout.read()
    process.wait()
    assert footprint.held_bytes(process.pid) == 0
    assert footprint.shared_out(process.pid) == (0, 0, 0)
    assert (footprint.peak_bytes(process.pid), footprint.command(process.pid)) == (0, "")
    assert footprint.descendants([(process.pid, 0)]) == {process.pid: []}
