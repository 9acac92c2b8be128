"""What is made of the figures: medians, ratios, verdicts, tables, the page. Nothing is measured here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks import document, report
from benchmarks.goals import GOALS, Goal
from benchmarks.series import Measured, Series
from benchmarks.settings import Settings, affordable, steady
from benchmarks.workloads import BY_NAME

if TYPE_CHECKING:
    from pathlib import Path


def results():
    return {
        "chain": Measured(
            "a chain",
            "ours",
            {
                "ours": Series({"us/step": [100.0, 90.0, 140.0]}),
                "concurrent.futures": Series({"us/step": [400.0, 390.0, 420.0]}),
                "ray": Series({}, "not installed (ray)"),
            },
        )
    }


def test_a_median_is_of_all_rounds_and_none_without_figures():
    measured = results()["chain"]
    assert measured.median("ours", "us/step") == 100.0
    assert measured.median("ray", "us/step") is None
    assert measured.median("nobody", "us/step") is None


def test_a_goal_compares_medians_of_one_run():
    goal = Goal("a step", "chain", "us/step", 0.3, ("concurrent.futures", "ray"))
    assert goal.measured(results()) == 0.25
    assert goal.met(0.25)
    assert not goal.met(0.31)


def test_a_goal_as_fast_as_turns_the_ratio():
    goal = Goal("speed", "chain", "us/step", 0.95, ("concurrent.futures",), at_least=True, turned=True)
    assert goal.measured(results()) == 4.0
    assert goal.met(4.0)


def test_a_goal_without_its_workload_or_its_peer_says_nothing():
    assert Goal("x", "elsewhere", "s", 1).measured(results()) is None
    assert Goal("x", "chain", "us/step", 1, ("ray",)).measured(results()) is None


def test_every_goal_names_a_workload_and_contestants_there_are():
    for goal in GOALS:
        contestants = BY_NAME[goal.workload].contestants
        assert {goal.subject, *goal.against} <= set(contestants), goal.text


def test_the_table_has_spread_and_ratio_and_drops_nobody():
    lines = report.table(results()["chain"]).splitlines()
    ours, theirs, missing = (next(line for line in lines if name in line) for name in ("100", "400", "ray"))
    assert "90 to 140" in ours
    assert theirs.endswith("0.25 x")
    assert "not installed" in missing


def test_every_goal_of_a_workload_that_was_run_has_its_line():
    found = {**results(), "fan": Measured("a fan", "ours", {"ours": Series({}, "failed")})}
    _, chain, fan = report.goals(found).splitlines()
    assert chain.endswith("0.25 x  met")
    assert fan.endswith("not measured")


def test_json_has_every_value(tmp_path: Path):
    report.write_json(results(), Settings(), 3, tmp_path / "latest.json")
    written = json.loads((tmp_path / "latest.json").read_text())
    assert written["workloads"]["chain"]["contestants"]["ours"]["values"]["us/step"] == [100.0, 90.0, 140.0]
    assert [goal["met"] for goal in written["goals"] if goal["workload"] == "chain"] == [True]


def test_only_the_generated_part_of_the_page_changes():
    page = f"# By people\n{document.BEGIN}\nold\n{document.END}\nMore by people\n"
    changed = document.with_generated(page, "new")
    assert changed == page.replace("old", "new")
    assert document.with_generated(changed, "new") == changed


def test_a_page_without_marks_is_left_alone():
    with pytest.raises(ValueError, match="marks"):
        document.with_generated("# By people", "new")


def test_slow_engines_get_as_many_tasks_as_take_five_seconds():
    assert affordable(5_000, lambda count: count / 4_000) == 5_000
    assert affordable(5_000, lambda count: count / 300) == 1_500
    assert affordable(5_000, lambda count: count / 3) == 20
    assert affordable(100, lambda count: count / 300) == 100


def test_steady_takes_medians_figure_by_figure():
    found = iter([{"a": 1.0, "b": 9.0}, {"a": 3.0, "b": 7.0}, {"a": 2.0, "b": 8.0}])
    assert steady(lambda: next(found), seconds=60, at_most=3) == {"a": 2.0, "b": 8.0}
