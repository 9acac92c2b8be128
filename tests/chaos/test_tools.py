"""The tools that measure for hours, for seconds: they work, and they see what they are to see."""

from __future__ import annotations

import argparse
import json
import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from tools import figures, flake, soak, test_the_tests, timings, trials  # noqa: E402


@pytest.fixture
def noted(monkeypatch, tmp_path):
    monkeypatch.setattr(figures, "FILE", tmp_path / "figures.json")
    return lambda: json.loads(figures.FILE.read_text())


def test_a_figure_replaces_the_earlier_one_of_its_measure(noted):
    figures.note("F10", "left", "0", "1", 5, "first")
    figures.note("F3", "death", "5 ms", "4 ms", 5, "second")
    figures.note("F10", "left", "0", "0", 7, "third")
    assert [(each["id"], each["result"], each["n"]) for each in noted()] == [("F3", "4 ms", 5), ("F10", "0", 7)]


def test_f10_runs_leave_a_process_as_it_was():
    warm = soak.warm_soak(runs=60, warm_up=20)
    assert warm.before[:3] == warm.after[:3]
    assert warm.before.shared == warm.after.shared


def test_f10_shared_memory_without_a_name_is_counted():
    before = soak.belongings()
    segment = os.memfd_create("dremioframe-test")
    os.ftruncate(segment, 4096)
    try:
        mapped = mmap.mmap(segment, 4096)
        held = soak.belongings()
        mapped.close()
    finally:
        os.close(segment)
    assert held.shared == before.shared + 3  # the descriptor, the one that a mapping keeps, and the mapping
    assert soak.Soaked(9, before, held, 0.0, 0.0, 0, 20, 1.0).problems()


def test_f10_f11_what_is_left_is_no_figure(noted, monkeypatch):
    one = soak.belongings()
    more = one._replace(shared=one.shared + 1)
    monkeypatch.setattr(soak, "warm_soak", lambda runs, warm_up: soak.Soaked(runs, one, more, 0.0, 0.0, 0, 20, 1.0))
    with pytest.raises(SystemExit, match="shared"):
        trials.soaked(10)
    assert not figures.FILE.exists()


def test_f11_a_slope_comes_with_its_interval():
    slope, half = soak.least_squares([(x, 100 + 7 * x) for x in range(50)])
    assert (slope, half) == (pytest.approx(7), pytest.approx(0, abs=1e-6))
    slope, half = soak.least_squares([(x, 100 + 7 * x + (-1) ** x * 20) for x in range(50)])
    assert slope - half < 7 < slope + half
    grown = soak.Soaked(9, soak.belongings(), soak.belongings(), 500.0, 10.0, 300, 20, 1.0)
    assert len(grown.problems()) == 2


def test_f3_f4_f5_deaths_and_time_outs_are_dealt_with_in_time():
    assert len(timings.detection(4)) == 4
    assert len(timings.replacement(4)) == 4
    late = timings.overtime(8)
    assert len(late) == 8
    assert min(late) > 0


def test_f6_a_task_that_ends_at_its_time_out_has_one_outcome():
    assert timings.photo_finish(60).startswith("0 double")


def test_f25_a_stopped_coordinator_times_nobody_out_who_was_in_time():
    assert timings.stopped_clock(1).startswith("0 false, 0 missed")


@pytest.mark.watchdog(300)
def test_flake_ends_at_the_first_failure_and_shows_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(flake, "PYTEST", [*flake.PYTEST[:-1], "1"])  # two tests need no four processes
    (tmp_path / "test_it.py").write_text("def test_good(): pass\ndef test_bad(): assert 'odd' == 'even'\n")
    options = argparse.Namespace(times=3, suite=0, limit=200.0)
    with pytest.raises(flake.FlakeError, match="'odd' == 'even'"):
        flake.repeat("odd", [str(tmp_path)], 3, "starved", options)
    said = capsys.readouterr().out
    assert "odd, starved 1/3" in said
    assert len(said.splitlines()) <= len(os.sched_getaffinity(0))


def test_what_a_run_has_left_behind_is_found_by_its_mark_and_nothing_else_is_touched():
    names = ("one", "other")
    one, other = [
        subprocess.Popen(["sleep", "600"], env={**os.environ, test_the_tests.MARK: name}, start_new_session=True)
        for name in names
    ]
    try:
        assert test_the_tests.end_marked("one") == 1
        assert one.wait() == -signal.SIGKILL
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_the_assertion_that_failed_is_told_with_the_protection():
    output = "F\n/x/tests/a.py:7: assert 3 == 4\nFAILED tests/a.py::test_r1_x - assert 3 == 4\n1 failed"
    assert test_the_tests.judge(1, output) == (test_the_tests.SEEN, "test_r1_x: assert 3 == 4")
