"""Every workload measures us, at a tiny size, and checks its own results; so does the peer that is always there."""

from __future__ import annotations

import pytest

from benchmarks import conduct, workloads
from benchmarks.settings import Settings
from benchmarks.workloads import ALL, BY_NAME
from benchmarks.workloads.scale import CHAIN, HUGE, SMALL
from benchmarks.workloads.workload import FLOOR, OURS

TINY = Settings(workers=2, scale=0.002)
SKIPPED = {
    "first-result": "starts whole programs, again and again",
    "first-result-main": "starts whole programs, again and again",
    "imports": "starts whole programs, again and again",
    "flights": "a month of it alone takes seconds",
    "tpch": "needs generated data",
}
QUICK = [workload for workload in ALL if workload.name not in SKIPPED]


@pytest.fixture(autouse=True)
def one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once is enough to see that it works."""
    for module in vars(workloads).values():
        if hasattr(module, "steady"):
            monkeypatch.setattr(module, "steady", lambda measure, **_: measure())


@pytest.mark.parametrize("workload", QUICK, ids=lambda workload: workload.name)
def test_ours_is_measured_and_right(workload):
    contestants = (SMALL, HUGE, CHAIN) if workload.name == "scale" else (OURS,)
    for contestant in contestants:
        figures = workload.measure(contestant, TINY)
        assert figures
        assert all(value >= 0 for label, value in figures.items() if "memory" not in label)


@pytest.mark.parametrize("name", ["hand-over-numpy", "hand-over-polars", "readers", "dags"])
def test_the_floor_is_measured(name):
    assert BY_NAME[name].measure(FLOOR, TINY)


@pytest.mark.parametrize("name", ["independent", "dags"])
def test_a_peer_has_a_turn_of_its_own(name):
    outcome = conduct.take_turn(name, "concurrent.futures", TINY)
    assert outcome.reason is None
    assert outcome.figures


def test_a_peer_that_is_not_there_is_told_as_such(monkeypatch):
    from benchmarks import peers, turn

    monkeypatch.setitem(peers.MODULES, "concurrent.futures", "no_such_module")
    request = {"workload": "chain", "contestant": "concurrent.futures", "workers": 2, "scale": 0.01}
    assert "not installed" in turn.measured({**request, "data": None, "workflows": None})["reason"]


def test_a_turn_that_fails_says_why(monkeypatch):
    from benchmarks import turn

    request = {"workload": "dags", "contestant": OURS, "workers": 2, "scale": 0.01}
    found = turn.measured({**request, "data": None, "workflows": "/no/such/folder"})
    assert found["reason"].startswith("failed: FileNotFoundError")
