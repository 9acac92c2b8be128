"""Fuzzed frames: into the coordinator's decoders, and from real workers. F15, R2, O9."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import wire_fuzz
import wire_hostile

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task, WorkerLostError
from dremioframe.orchestration.pool import channel


def test_f15_fuzzed_frames_neither_hang_nor_crash_nor_over_allocate():
    """In processes of their own: with 64 MiB more than they start with, whatever a length field says."""
    programs = [
        subprocess.Popen(
            [sys.executable, wire_fuzz.__file__, "--frames", "50000", "--seed", seed],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for seed in ("15", "51")
    ]
    for program in programs:
        said, _ = program.communicate(timeout=100)
        assert program.returncode == 0, said
        faults = int(re.search(r"'faults': (\d+)", said).group(1))
        assert faults > 10_000, said


def test_f15_a_chunk_is_what_it_was():
    assert wire_fuzz.fuzz(300, 4, 2)["faults"] == wire_fuzz.fuzz(300, 4, 2)["faults"] > 50


def test_f15_hostile_packets_of_real_workers_cost_at_most_a_worker_each():
    print(wire_hostile.harass(1000, 15))


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (wire_hostile.never_over, "start in the future"),
        (wire_hostile.tells_for_ever_that_it_is_ready, "told twice"),
        (wire_hostile.asks_for_ever, "longer than its timeout"),
    ],
)
def test_f15_what_would_go_on_for_ever_is_ended(action, said):
    pipeline = Pipeline("p")
    pipeline.add_task(Task("bad", action, timeout=1)).add_task(Task("good", wire_hostile.honest, (3,), retries=3))
    with ProcessExecutor(1, kill_grace_s=0.2, preload=["wire_hostile"]) as executor:
        run = pipeline.run(executor=executor, timeout=60)
    assert run["good"] == 9
    assert said in str(run.tasks["bad"].error)


@pytest.mark.usefixtures("sent_ahead")
def test_f15_a_worker_that_says_it_retires_and_stays_is_ended_at_once():
    """Nobody prods the silent here: without being ended it would stay until the run's time is over."""
    pipeline = Pipeline("p")
    pipeline.add_task(Task("bad", wire_hostile.retires_and_stays)).add_task(
        Task("good", wire_hostile.honest, (3,), retries=3)
    )
    with ProcessExecutor(1) as executor:
        run = pipeline.run(executor=executor, timeout=60)
    assert run["good"] == 9


@pytest.mark.parametrize("status", [4, 5, 6, 255])
def test_f15_a_status_that_is_the_coordinators_to_give(status):
    pipeline = Pipeline("p")
    pipeline.add_task(Task("bad", wire_hostile.forge_status, (status,))).add_task(
        Task("good", wire_hostile.honest, (3,), retries=3)
    )
    with ProcessExecutor(1) as executor:
        run = pipeline.run(executor=executor, timeout=60)
    assert run["good"] == 9
    assert (run.status, run.tasks["bad"].status) == ("FAILED", "FAILED")
    assert not isinstance(run.tasks["bad"].error, WorkerLostError)
    assert "cannot be read" in str(run.tasks["bad"].error)


def test_f15_two_descriptors_where_one_may_be_are_closed():
    ours, theirs = channel.pair()
    pair = [wire_fuzz.segment_fd(b"x"), wire_fuzz.segment_fd(b"x")]
    theirs.send_with(b"packet", tuple(pair))
    channel.close_all(pair)
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert ours.receive_with(100, 1) == (b"packet", ())
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    ours.close()
    theirs.close()
