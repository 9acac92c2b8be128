"""docs/reliability.md is complete and true: every promise has a test or says what it waits for."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools" / "reliability.py"


@pytest.fixture(scope="module")
def reliability() -> Any:
    spec = importlib.util.spec_from_file_location("reliability", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_complete_and_up_to_date() -> None:
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def complete(reliability: Any) -> tuple[dict[str, dict[str, str]], dict[str, list[str]]]:
    promise = {"fault": "f", "promise": "p", "protection": "a.point"}
    names = reliability.identifiers()
    return {name: dict(promise) for name in names}, {name: ["a.py::test_it"] for name in names}


def test_nothing_is_missed_in_a_complete_page(reliability: Any) -> None:
    assert reliability.problems(*complete(reliability)) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda promises, tests: promises.pop("U10"), "U10: nothing is promised"),
        (lambda promises, tests: tests.pop("U10"), "U10: has no test"),
        (lambda promises, tests: promises["U10"].update(waiting="for godot"), "U10: has a test and waits"),
        (lambda promises, tests: promises["U10"].pop("protection"), "U10: says not, or twice"),
        (lambda promises, tests: promises["U10"].update(fault=""), "U10: needs a fault"),
        (lambda promises, tests: tests.update(U99=["b.py::test_u99_x"]), "U99: no such promise"),
    ],
)
def test_what_is_missing_is_said(reliability: Any, change: Any, complaint: str) -> None:
    promises, tests = complete(reliability)
    change(promises, tests)
    (line,) = reliability.problems(promises, tests)
    assert line.startswith(complaint)


def test_a_test_may_show_several_promises(reliability: Any) -> None:
    found = reliability.find_tests()
    assert any("test_u10_" in test for test in found["U10"])
