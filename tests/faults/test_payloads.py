"""Values that cannot travel, or travel in great lengths. Fault ids P1, P2, P4, P5, P8, P10, P14, P16.

More of section P stands in ``tests/payload`` and ``tests/executors``.
"""

from __future__ import annotations

import mmap
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from dremioframe.orchestration import PayloadError, Pipeline, ProcessExecutor, Task, WorkerLostError
from dremioframe.orchestration.payload import segments
from dremioframe.orchestration.payload.segments import Segment

if TYPE_CHECKING:
    from pathlib import Path

    from dremioframe.orchestration import PipelineRun

LIMIT_S = 20
GIB = 1 << 30


def run_of(*tasks: Task, **options: Any) -> PipelineRun:
    pipeline = Pipeline("p")
    for each in tasks:
        pipeline.add_task(each)
    return pipeline.run(**{"executor": "process", "max_workers": 1, "timeout": LIMIT_S, **options})


class Refuses:
    def __reduce__(self) -> Any:
        raise TypeError("I do not travel")


def test_p1_an_argument_that_cannot_be_pickled_is_named_and_never_sent() -> None:
    given = {"rows": [1, Refuses()]}
    run = run_of(Task("bad", len, (given,), retries=3), *[Task(f"good{n}", int) for n in range(20)])
    error = run.failures["bad"]
    assert type(error) is PayloadError
    assert (error.task, error.stage, error.path) == ("bad", "args_pickle", "args[0]['rows'][1]")
    assert "I do not travel" in str(error)
    assert [attempt.worker_pid for attempt in run.tasks["bad"].attempts] in ([], [None])
    assert len(run) == 20


def numbers_and_a_lock(count: int) -> dict[str, object]:
    return {"rows": list(range(count)), "data": np.zeros(count), "deeper": {"lock": threading.Lock()}}


def test_p1_the_search_in_a_large_value_holds_up_no_other_task() -> None:
    slow, first = Task("slow", time.sleep, (LIMIT_S,), timeout=0.5), Task("first", time.sleep, (0.1,), priority=1)
    bad = Task("bad", len, (numbers_and_a_lock(3_000_000),))
    first.set_downstream(bad)
    run = run_of(slow, first, bad, max_workers=2)
    error = run.failures["bad"]
    assert isinstance(error, PayloadError)
    assert error.path == "args[0]['deeper']['lock']"
    assert run.tasks["slow"].status == "FAILED"
    assert run.tasks["slow"].attempts[0].wall_s < 5


def test_p5_the_search_in_a_large_result_takes_no_multiple_of_its_memory() -> None:
    run = run_of(Task("bad", lambda: numbers_and_a_lock(3_000_000), memory_limit="400MiB"))
    error = run.failures["bad"]
    assert isinstance(error, PayloadError), error
    assert error.path == "result['deeper']['lock']"


def end_process(how: int) -> None:
    if how:
        os.kill(os.getpid(), how)
    os._exit(0)


class EndsItsReader:
    def __init__(self, how: int) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return end_process, (self.how,)


@pytest.mark.parametrize("how", [0, signal.SIGSEGV], ids=["exit", "SIGSEGV"])
@pytest.mark.parametrize("place", ["args", "context"])
def test_p4_what_ends_the_worker_that_unpickles_it_costs_that_attempt(how: int, place: str) -> None:
    value = EndsItsReader(how)
    if place == "args":
        run = run_of(Task("bad", id, (value,)), Task("good", int))
    else:
        run = run_of(Task("bad", lambda context: context["x"]), Task("good", int), context={"x": value})
    error = run.failures["bad"]
    assert isinstance(error, WorkerLostError)
    assert (error.exit_code, error.signal) == ((None, how) if how else (0, None))
    assert len(run.tasks["bad"].attempts) == 1
    assert run["good"] == 0


# --- beyond two and four GiB ------------------------------------------------------------------------------------------


def address_space(size: int) -> mmap.mmap:
    """So many zeros, and no memory."""
    no_reserve = getattr(
        mmap, "MAP_NORESERVE", 0x4000
    )  # the number of most processors, where Python has no name for it
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)


@pytest.mark.parametrize("limit", [segments._WRITE_LIMIT_BYTES, 1 << 40], ids=["ours", "the kernel's"])
def test_p10_a_write_of_more_than_the_kernel_takes_at_once_is_gone_on_with(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/null copies nothing, and one call takes no more for it than for any other file: 2 GiB less a page."""
    monkeypatch.setattr(segments, "_WRITE_LIMIT_BYTES", limit)
    calls: list[tuple[int, int]] = []

    def write(fd: int, batch: Any, position: int) -> int:
        written = pwritev(fd, batch, position)
        calls.append((position, written))
        return written

    pwritev = os.pwritev
    monkeypatch.setattr(segments, "_pwritev", write)
    zeros = address_space(2 * GIB + 1)
    fd = os.open("/dev/null", os.O_WRONLY)
    try:
        assert segments._write_all(fd, [b"x", zeros, zeros, b"yz"]) == 4 * GIB + 5
    finally:
        os.close(fd)
    assert len(calls) > 2
    assert [position for position, _ in calls] == [sum(written for _, written in calls[:n]) for n in range(len(calls))]


@pytest.mark.parametrize("boundary", [2 * GIB, 4 * GIB])
def test_p10_bytes_around_the_boundary_come_back(boundary: int, tmp_path: Path) -> None:
    """In a file with a hole, which takes no room, written by the loop that fills segments and read as they are."""
    fd = segments.unnamed_file(str(tmp_path))
    try:
        size = segments._write_batch(fd, [memoryview(b"abc"), memoryview(b""), memoryview(b"def")], boundary - 3)
        assert size == boundary + 3
        segment = Segment.adopt(segments.reopened(fd))
    finally:
        os.close(fd)
    view = segment.map()
    assert len(view) == boundary + 3
    assert bytes(view[boundary - 4 :]) == b"\0abcdef"
    view[boundary - 1] = view[boundary + 2] = 7
    assert bytes(segment.map()[boundary - 4 :]) == b"\0abcdef"
    assert bytes(segments._copy(segment.fd, boundary - 4, 7)) == b"\0abcdef"


# --- objects of the engine --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["args", "closure", "context"])
@pytest.mark.parametrize("kind", ["executor", "handle"])
def test_p16_an_object_of_the_engine_is_refused_in_words_that_name_it(kind: str, place: str) -> None:
    with ProcessExecutor(max_workers=1) as executor:
        handle = Pipeline("inner").add_task(Task("t", int)).start(executor=executor)
        handle.result()
        thing, words = {
            "executor": (executor, "a ProcessExecutor owns processes"),
            "handle": (handle, "the handle of a run"),
        }[kind]
        bad, context = {
            "args": (Task("bad", repr, ([1, thing],)), {}),
            "closure": (Task("bad", lambda: thing), {}),
            "context": (Task("bad", lambda context: context["x"]), {"x": [1, thing]}),
        }[place]
        run = run_of(bad, Task("good", int), executor=executor, max_workers=None, context=context)
    error = run.failures["bad"]
    assert type(error) is PayloadError
    assert words in str(error)
    assert error.path == {"args": "args[0][1]", "closure": "action<closure thing>", "context": "x[1]"}[place]
    assert run["good"] == 0
