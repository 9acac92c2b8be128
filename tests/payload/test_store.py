"""Long results within a budget of memory and of descriptors."""

from __future__ import annotations

import errno
import gc
import os
import resource

import numpy as np
import pytest

from dremioframe.orchestration.payload import codec, segments, shelves, store
from dremioframe.orchestration.payload.segments import File, Segment, SegmentError
from dremioframe.orchestration.payload.store import Store

PAGE = segments.PAGE_BYTES


@pytest.fixture
def scarce_descriptors(monkeypatch):
    """As if half of the descriptors were in use."""
    monkeypatch.setattr(segments, "is_high", lambda _fd: True)


def open_count():
    return len(os.listdir("/proc/self/fd"))


def descriptor_names():
    names = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # the listing's own
            continue
    return names


def test_a_descriptor_is_high_from_half_of_the_limit_on():
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert not segments.is_high(limit // 2)
    assert segments.is_high(limit // 2 + 1)


# ------------------------------------------------------------------------------------------------------------- budget


def test_without_a_limit_there_is_always_room():
    assert Store().room() == store.NO_LIMIT


def test_a_budget_is_a_share_of_what_was_usable_and_comes_back_as_segments_are_closed():
    kept = Store(lambda: 1_000_000, share=0.5)
    assert kept.room() == 500_000
    first = kept.keep(Segment.create((b"x" * 200_000,), 200_000))
    second = kept.keep(Segment.create((b"x" * 100_000,), 100_000))
    assert kept.room() == 200_000
    first.close()
    first.close()  # counted once
    assert kept.room() == 400_000
    del second
    assert kept.room() == 500_000


def test_the_budget_shrinks_when_somebody_else_has_taken_the_memory():
    usable = [1 << 30]
    kept = Store(lambda: usable[0], share=0.5)
    assert kept.room() == 1 << 29
    usable[0] = 1 << 20
    segment = kept.keep(Segment(File(os.memfd_create("test")), 64 << 20))  # as if so much had been written
    assert kept.room() == 1 << 19
    segment.close()


def test_beyond_the_budget_new_segments_are_files_without_names(tmp_path):
    kept = Store(lambda: 100_000, share=1.0, spill_dir=str(tmp_path))
    in_memory = kept.create((b"a" * 70_000,), 70_000)
    on_disk = kept.create((b"b" * 70_000,), 70_000)
    assert (in_memory.in_memory, on_disk.in_memory) == (True, False)
    assert on_disk.read() == b"b" * 70_000
    assert kept.room() == 30_000
    assert os.listdir(tmp_path) == []
    assert any(name.startswith(str(tmp_path)) for name in descriptor_names())
    on_disk.close()
    assert not any(name.startswith(str(tmp_path)) for name in descriptor_names())


def test_a_spilled_array_is_writable_and_private(tmp_path):
    payload = codec.encode(np.arange(100_000))
    spilled = Segment.spill(payload.parts, payload.size, str(tmp_path))
    mine, yours = (codec.decode(spilled.map(), private=True) for _ in range(2))
    mine[:] = 0
    assert yours.sum() == np.arange(100_000).sum()


def test_a_directory_that_cannot_hold_such_files_is_an_error_that_names_it(tmp_path):
    missing = str(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="missing"):
        Segment.spill((b"x",), 1, missing)


def test_nothing_stays_of_a_spill_that_failed(tmp_path):
    before = open_count()
    with pytest.raises(ValueError, match="not 5"):
        Segment.spill((b"abc",), 5, str(tmp_path))
    assert open_count() == before


def test_an_overdraft_is_told_once(monkeypatch):
    monkeypatch.setattr(store, "find_spill_dir", lambda _chosen: None)
    kept = Store(lambda: 100_000, share=1.0)
    assert kept.overdraft() is None
    segments_ = [kept.create((b"x" * 70_000,), 70_000) for _ in range(2)]
    assert all(segment.in_memory for segment in segments_)
    assert "spill_dir" in (kept.overdraft() or "")
    assert kept.overdraft() is None


def test_the_spill_directory_is_on_a_disk(monkeypatch, tmp_path):
    kinds = {"/": "ext4", str(tmp_path): "tmpfs"}
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    mounts = [type("Mount", (), {"mountpoint": path, "fstype": kind}) for path, kind in kinds.items()]
    monkeypatch.setattr("psutil.disk_partitions", lambda *, all: mounts)  # noqa: A006 - psutil's name
    assert store.find_spill_dir(None) == "/var/tmp"
    kinds["/"] = "ramfs"
    mounts[0].fstype = "ramfs"
    assert store.find_spill_dir(None) is None


def test_a_spill_directory_that_has_gone_leaves_memory_and_a_warning_that_names_it(tmp_path):
    directory = tmp_path / "gone"
    directory.mkdir()
    kept = Store(lambda: 100_000, share=1.0, spill_dir=str(directory))
    directory.rmdir()
    segments_ = [kept.create((b"x" * 70_000,), 70_000) for _ in range(2)]
    assert all(segment.in_memory for segment in segments_)
    assert str(directory) in (kept.overdraft() or "")


def test_memory_that_cannot_be_looked_up_now_is_looked_up_later():
    answers = [OSError(errno.EMFILE, "too many"), 1 << 20]

    def usable():
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    kept = Store(usable, share=1.0)
    assert kept.room() == store.NO_LIMIT
    assert kept.room() == 1 << 20


def test_a_closed_segment_has_no_place():
    segment = Segment.create((b"x",), 1)
    segment.close()
    with pytest.raises(SegmentError, match="closed"):
        segment.map()


# --------------------------------------------------------------------------------------------------------- descriptors


@pytest.mark.usefixtures("scarce_descriptors")
def test_o10_many_segments_share_a_few_descriptors():
    kept = Store(lambda: 1 << 30, share=1.0)
    before = open_count()
    values = [os.urandom(1) * size for size in range(70_000, 70_100)]
    on_shelf = [kept.keep(Segment.create((value,), len(value))) for value in values]
    assert open_count() - before <= 6
    assert [segment.read() for segment in on_shelf] == values
    assert all(segment.place[1] % PAGE == 0 for segment in on_shelf)
    assert kept.room() == (1 << 30) - sum(map(len, values))


@pytest.mark.usefixtures("scarce_descriptors")
def test_o10_a_shelf_is_freed_with_its_last_segment():
    gc.collect()
    before = open_count()
    kept = Store(lambda: 1 << 30, share=1.0)
    on_shelf = [kept.keep(Segment.create((b"x" * 100_000,), 100_000)) for _ in range(200)]
    for segment in on_shelf:
        segment.close()
    del on_shelf, segment
    assert kept.room() == 1 << 30
    assert open_count() == before


@pytest.mark.usefixtures("scarce_descriptors")
def test_an_array_from_a_shelf_outlives_its_segment():
    payload = codec.encode(np.arange(50_000))
    kept = Store()
    on_shelf = kept.keep(Segment.create(payload.parts, payload.size))
    array = codec.decode(on_shelf.map(), private=True)
    array[0] = 7
    again = codec.decode(on_shelf.map(), private=True)
    on_shelf.close()
    del on_shelf, kept
    assert array.sum() == np.arange(50_000).sum() + 7
    assert again[0] == 0


@pytest.mark.usefixtures("scarce_descriptors")
def test_readers_of_a_shelf_cannot_write_to_it():
    kept = Store()
    segment = kept.keep(Segment.create((b"x" * 100_000,), 100_000))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(segment.fd, b"y", segment.place[1])


def test_o10_values_can_be_read_when_no_descriptor_is_left_for_a_mapping(monkeypatch):
    payload = codec.encode(np.arange(50_000))
    segment = Segment.create(payload.parts, payload.size)
    monkeypatch.setattr(segments, "_is_next_high", lambda _fd: True)
    array = codec.decode(segment.map(), private=True)
    array[0] = 5
    assert codec.decode(segment.map(), private=True)[0] == 0


@pytest.mark.usefixtures("scarce_descriptors")
def test_o10_spilled_segments_share_descriptors_too(tmp_path):
    kept = Store(lambda: 0, spill_dir=str(tmp_path))
    before = open_count()
    on_shelf = [kept.create((bytes([i]) * 70_000,), 70_000) for i in range(100)]
    assert open_count() - before <= 4
    assert not any(segment.in_memory for segment in on_shelf)
    assert [segment.read() for segment in on_shelf] == [bytes([i]) * 70_000 for i in range(100)]
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("scarce_descriptors")
def test_o10_large_segments_share_descriptors_too():
    kept = Store(lambda: 1 << 40, share=1.0)
    before = open_count()
    on_shelf = [kept.keep(hollow(70 << 20, name)) for name in range(12)]
    assert open_count() - before <= 4
    assert [segment.map()[-1] for segment in on_shelf] == list(range(12))


def hollow(size, last):
    """A segment that takes no memory but for its last page."""
    fd = segments.memory_file("hollow")
    os.pwrite(fd, bytes([last]), size - 1)
    return Segment(File(fd), size)


@pytest.mark.usefixtures("scarce_descriptors")
def test_one_short_segment_does_not_keep_a_large_shelf():
    kept = Store(lambda: 1 << 30, share=1.0)
    before = open_count()
    survivors = []
    for i in range(20):
        survivors.append(kept.create((bytes([i]) * 70_000,), 70_000))
        others = [kept.create((b"x" * 1_000_000,), 1_000_000) for _ in range(20)]
        del others
        kept.tidy()
    assert (1 << 30) - kept.room() <= 20 * 70_000 + 2 * (4 << 20)
    assert open_count() - before <= 6
    assert [segment.read() for segment in survivors] == [bytes([i]) * 70_000 for i in range(20)]
    del survivors
    assert kept.room() == 1 << 30
    assert open_count() == before


@pytest.mark.usefixtures("scarce_descriptors")
def test_what_is_read_while_its_shelf_is_cleared_stays_what_it_was():
    kept = Store(lambda: 1 << 30, share=1.0)
    mine = kept.create((b"m" * 70_000,), 70_000)
    others = [kept.create((b"x" * 1_000_000,), 1_000_000) for _ in range(20)]
    view, place = mine.map(), mine.place
    del others
    kept.tidy()
    assert mine.place[0] is not place[0]
    assert os.pread(place[0].fd, 70_000, place[1]) == view == mine.read() == b"m" * 70_000


@pytest.mark.usefixtures("scarce_descriptors")
def test_a_shelf_is_only_cleared_into_memory_that_there_is():
    kept = Store(lambda: 6_300_000, share=1.0)
    mine = kept.create((b"m" * 200_000,), 200_000)
    others = [kept.create((b"x" * 1_000_000,), 1_000_000) for _ in range(3)]
    filler = kept.create((b"f" * 3_000_000,), 3_000_000)
    before = mine.place
    del others
    kept.tidy()
    assert mine.place == before
    del filler
    kept.tidy()
    assert mine.place != before
    assert mine.read() == b"m" * 200_000


@pytest.mark.usefixtures("scarce_descriptors")
def test_a_shelf_that_was_cleared_halfway_is_cleared_later(monkeypatch):
    kept = Store(lambda: 1 << 30, share=1.0)
    mine = [kept.create((bytes([i]) * 70_000,), 70_000) for i in range(4)]
    others = [kept.create((b"x" * 1_000_000,), 1_000_000) for _ in range(3)]
    del others
    sent = iter((True, True, False))
    send = os.sendfile
    monkeypatch.setattr(shelves, "_sendfile", lambda *args: send(*args) if next(sent) else refuse())
    kept.tidy()
    monkeypatch.undo()
    monkeypatch.setattr(segments, "is_high", lambda _fd: True)
    assert len({one.place[0] for one in mine}) == 2
    kept.tidy()
    kept.tidy()
    assert [one.read()[:1] for one in mine] == [bytes([i]) for i in range(4)]
    assert (1 << 30) - kept.room() == 4 * 70_000
    del mine
    assert kept.room() == 1 << 30


@pytest.mark.usefixtures("scarce_descriptors")
def test_a_segment_that_another_thread_closes_while_its_shelf_is_cleared_is_not_missed(monkeypatch):
    kept = Store(lambda: 1 << 30, share=1.0)
    mine = [kept.create((bytes([i]) * 70_000,), 70_000) for i in range(3)]
    others = [kept.create((b"x" * 1_000_000,), 1_000_000) for _ in range(3)]
    del others
    send = os.sendfile

    def interrupted(*args):
        sent = send(*args)
        for one in mine[1:]:
            one.close()  # the last is being moved, the one before is next
        return sent

    monkeypatch.setattr(shelves, "_sendfile", interrupted)
    kept.tidy()
    assert mine[0].read() == bytes([0]) * 70_000
    mine.clear()
    assert kept.room() == 1 << 30


@pytest.mark.usefixtures("scarce_descriptors")
def test_after_a_shelf_that_could_not_be_written_to_comes_another(monkeypatch):
    kept = Store(lambda: 1 << 30, share=1.0)
    first = kept.create((b"a" * 70_000,), 70_000)
    before = open_count()
    monkeypatch.setattr(shelves, "_sendfile", refuse)
    second = kept.create((b"b" * 70_000,), 70_000)  # stays as it is
    monkeypatch.undo()
    monkeypatch.setattr(segments, "is_high", lambda _fd: True)
    third = kept.create((b"c" * 70_000,), 70_000)
    assert [segment.read()[:1] for segment in (first, second, third)] == [b"a", b"b", b"c"]
    assert len({segment.place[0].fd for segment in (first, second, third)}) == 3
    del first, second, third
    assert kept.room() == 1 << 30
    assert open_count() < before


def refuse(*_args):
    raise OSError(errno.EFBIG, "File too large")
