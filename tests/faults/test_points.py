"""Failpoints and promises are what they say: every name that is used exists, and every point that exists is used."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("test_the_tests", ROOT / "tools" / "test_the_tests.py")
assert _spec is not None
assert _spec.loader is not None
tool: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tool)

#: These two use points of no process but their own.
OWN = {"test_failpoints.py", "test_points.py"}
ARMED = re.compile(r"""["']([a-z_]+\.[a-z_]+)["']\s*:|\b([a-z_]+\.[a-z_]+)=(?:off|fail|kill|exit|pause)\b""")


def texts_of_tests() -> dict[str, str]:
    paths = [path for path in (ROOT / "tests").rglob("*.py") if path.name not in OWN]
    return {path.name: text for path in paths if "arm" in (text := path.read_text()) or "FAILPOINTS" in text}


def protections() -> set[str]:
    promises, _ = tool.read_promises()
    return {name for promise in promises for name in promise.protections}


def test_every_point_that_is_switched_off_exists() -> None:
    assert protections() <= tool.points_in_source()


def test_every_point_that_a_test_arms_exists() -> None:
    points = tool.points_in_source()
    modules = {point.partition(".")[0] for point in points}
    for name, text in texts_of_tests().items():
        armed = {first or second for first, second in ARMED.findall(text)}
        # Other dictionaries have keys with a dot, too: what begins with the name of a module that has points is meant.
        assert {point for point in armed if point.partition(".")[0] in modules} <= points, name


def test_every_point_is_used_by_a_test_or_a_promise() -> None:
    text = "\n".join(texts_of_tests().values())
    assert {point for point in tool.points_in_source() - protections() if point not in text} == set()


def test_every_promise_is_written_down_as_it_should_be() -> None:
    assert tool.read_promises()[1] == []


@pytest.mark.parametrize(
    ("code", "output", "outcome"),
    [
        (1, "FAILED tests/a.py::test_r1_x - AssertionError", "seen"),
        (1, "tests/a.py::test_r1_x runs longer than 30 s. Stacks", "seen"),
        (-11, "", "seen"),
        (0, "1 passed", "NOT SEEN"),
        (1, "", "TROUBLE"),
        (2, "collection failed", "TROUBLE"),
        (5, "no tests ran", "TROUBLE"),
        (None, "", "TROUBLE"),
    ],
)
def test_what_an_end_of_pytest_means(code: int | None, output: str, outcome: str) -> None:
    assert tool.judge(code, output)[0] == outcome


def test_a_promise_that_nothing_can_keep_is_complained_of(tmp_path: Path) -> None:
    (tmp_path / "z.toml").write_text('[U91]\nfault = "f"\npromise = "p"\nprotection = "no.such"\n[U92]\nfault = "f"\n')
    promises, complaints = tool.read_promises(tmp_path)
    assert complaints == ["U92 says nothing under 'promise'", "U92 needs one of protection, unswitchable, waiting"]
    assert tool.complain(promises, {"U92": ["tests/a.py::test_u92_x"]}, {"some.point"}) == [
        "U91: no failpoint 'no.such' in the package",
        "U91: no test named test_u91_...",
    ]
