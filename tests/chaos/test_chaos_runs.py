"""The short form of ``make chaos``: fixed seeds, on processes and on the virtual clock; and its judge is judged."""

from __future__ import annotations

import copy
import itertools
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from dremioframe.orchestration.dag.dag import Dag  # noqa: E402
from dremioframe.orchestration.machine.invariants import InvariantError  # noqa: E402
from tools.chaos import conductor, scripts, trial, verify, virtual, watched  # noqa: E402
from tools.chaos.actions import Mark  # noqa: E402
from tools.chaos.cases import random_case  # noqa: E402

SEEDS = (1, 2, 3, 4, 6, 8, 9, 12)
KILLED_SEED, KILLED_TASKS = 1, 400
KILLS = 400
VIRTUAL_SEEDS = 300
LEFT_BEHIND_SEED = 211  # one task leaves a child behind, and another ends the same worker


@pytest.mark.parametrize("seed", SEEDS)
def test_random_pipelines_under_random_faults(seed):
    judged = trial.real(seed)
    print(scripts.to_text(judged.applied))
    assert not judged.violations, "\n".join(judged.violations)


def test_f1_f2_kills_of_workers_lose_nothing_and_cost_one_attempt_each():
    # They end: on a starved machine, kills every 20 ms without end would let no worker live long enough for a task.
    kills = itertools.islice(scripts.kills_only(KILLED_SEED), KILLS)
    judged = trial.real(KILLED_SEED, KILLED_TASKS, kills)
    assert not judged.violations, "\n".join(judged.violations)
    assert judged.applied
    assert judged.executions <= KILLED_TASKS + len(judged.applied)
    assert max(judged.lost_per_kill.values()) <= 1


@pytest.mark.parametrize("first", range(0, VIRTUAL_SEEDS, 100))
def test_the_same_faults_on_the_virtual_clock(first):
    for seed in range(first, first + 100):
        assert not virtual.simulate(seed), seed


LEAVES_SOMEBODY = """
import subprocess, sys
between = "import subprocess, sys; subprocess.Popen(['sleep', '600'], start_new_session=True)"
subprocess.run([sys.executable, "-S", "-c", between], stdout=subprocess.DEVNULL)
print("go\\ndone", flush=True)
"""


def test_a_survivor_that_nobody_has_seen_is_found(monkeypatch, tmp_path):
    """No fault was applied, so the conductor has never looked who is there."""
    for package in (tmp_path / "tools", tmp_path / "tools" / "chaos"):
        package.mkdir()
        (package / "__init__.py").touch()
    (package / "coordinator.py").write_text(LEAVES_SOMEBODY)
    monkeypatch.setattr(conductor, "ROOT", tmp_path)
    monkeypatch.setattr(conductor, "GONE_S", 0.0)
    played = conductor.conduct(0, iter(()), tmp_path)
    assert ["(sleep)" in problem for problem in played.problems] == [True, False], played.problems


def test_what_lives_when_the_end_of_its_worker_is_told_is_seen_then(monkeypatch):
    """At close it would be gone."""
    monkeypatch.setenv("DREMIOFRAME_FAILPOINTS", "zygote.sweep=off")
    violations = trial.real(LEFT_BEHIND_SEED, script=iter(())).violations
    assert violations
    assert all("has ended, it is told, but" in each for each in violations)


def test_a_child_that_nobody_was_left_to_end_may_also_be_there_when_an_end_is_told(monkeypatch):
    """Only one that stays is excused by the death of both guards, not one that was ended late."""
    conduct = trial.conduct

    def conducted(*given):
        played = conduct(*given)
        played.runs[0]["strays"] = [(11, "11 lives"), (12, "12 lives")]
        return played._replace(survivors={11})

    monkeypatch.setattr(trial, "conduct", conducted)
    assert trial.real(1, script=iter(())).violations == ["12 lives"]


def test_a_machine_that_contradicts_itself_is_seen_at_once():
    machine = watched._Machine(Dag(["a", "b"], [(), ()]))
    machine.start()
    machine.attempts[0] = 7
    with pytest.raises(InvariantError, match="RUNNING with 8 attempts"):
        machine.take(1)


def test_what_a_worker_had_sent_counts():
    marks = [Mark("S", name, 1, 11, 0, at, {}) for at, name in enumerate(("a", "b"))]
    lost, run = [1, "LOST", 11, None, ""], [1, "SUCCESS", 11, 0.0, ""]
    for first, second, wrong in [(run, lost, 0), (lost, run, 1)]:
        told = {"tasks": {"a": {"attempts": [first]}, "b": {"attempts": [second]}}}
        assert len(list(verify.verify_sent([told], [marks]))) == wrong


def test_a_loss_on_the_virtual_clock_is_charged_to_a_strike():
    case = random_case(21)
    name = case.specs[0].name
    told = {"tasks": {spec.name: {"attempts": []} for spec in case.specs}}
    spec = case.specs[0]._replace(does=("ok",))
    case = case._replace(specs=(spec, *case.specs[1:]))
    for status, struck, wrong in [("LOST", {(name, 1)}, 0), ("LOST", {(name, 2)}, 1), ("SUCCESS", {(name, 1)}, 1)]:
        told["tasks"][name]["attempts"] = [(1, status, 0, 0.0, "")]
        assert len(list(virtual.charged(case, told, struck))) == wrong


def test_a_run_that_raises_is_a_violation_and_its_words_are_told(monkeypatch):
    """Its thread ends with it, and the coordinator does so as if nothing were wrong."""
    started = conductor._start

    def start(seed, tasks, folder):
        (folder / "marks1").mkdir()  # what the second run cannot make into a file
        return started(seed, tasks, folder)

    monkeypatch.setattr(conductor, "_start", start)
    seed = next(seed for seed in range(1, 1000) if random_case(seed).together and random_case(seed).runs > 1)
    violations = trial.real(seed, script=iter(())).violations
    assert any("run 1 raised" in each for each in violations)
    assert any("FileExistsError" in each for each in violations)


def test_a_script_is_replayed_as_it_was_written():
    faults = list(itertools.islice(scripts.random_script(5), 50))
    assert scripts.from_text(scripts.to_text(faults)) == faults == list(itertools.islice(scripts.random_script(5), 50))


def spoilt_runs(case, run):
    """Each with one thing wrong in it."""
    name = next(spec.name for spec in case.specs if run["tasks"][spec.name]["status"] == "SUCCESS")
    for what, value in [("status", "FAILED"), ("digest", None), ("size", -1), ("intact", False), ("attempts", [])]:
        spoilt = copy.deepcopy(run)
        spoilt["tasks"][name][what] = value
        yield what, spoilt
    spoilt = copy.deepcopy(run)
    spoilt["tasks"][name]["attempts"] *= 2
    yield "twice", spoilt


def test_the_judge_passes_a_run_without_faults_and_sees_each_single_lie():
    case = random_case(21)
    case = case._replace(specs=tuple(spec._replace(does=("ok",), timeout=None) for spec in case.specs))
    run = trial.serial(case)
    assert not list(verify.verify_run(case, run, {}, 0))
    for what, spoilt in spoilt_runs(case, run):
        assert list(verify.verify_run(case, spoilt, {}, 0)), what
