"""Write the tables of docs/reliability.md: which fault, what is promised, which test shows it.

Run by ``make reliability``; ``--check`` writes nothing and fails if the page is not what it would be::

    python tools/reliability.py [--check]

Promises are the tables in ``tests/faults/promises/*.toml``, one file for each section; a test belongs to a promise by
its name (``test_u10_os_exit``). Each promise has a test or says what it waits for, and no test belongs to nothing.
Figures come from ``docs/reliability-figures.json``, which ``tools/trials.py`` writes.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"
FIGURES = ROOT / "docs" / "reliability-figures.json"
PROMISES = ROOT / "tests" / "faults" / "promises"

SECTIONS = {
    "U": ("User code", 35),
    "P": ("Payloads and results", 18),
    "O": ("Operating system", 32),
    "D": ("The graph", 17),
    "R": ("Races: time-out, retry, cancel, shutdown", 20),
    "S": ("Schedules", 8),
    "A": ("The interface", 16),
}
SWITCHED = "UPOR"
"""Where a name proves nothing: each line says which failpoint switches its protection off, or why none does."""

FIGURE = "F"
"""Tests may also be named after a figure, which stands in another table."""

_TEST = re.compile(r"^\s*(?:async )?def test_((?:[a-z]\d+_)+)(\w*)\(", re.MULTILINE)
_MARKS = "<!-- {}: begin -->\n", "<!-- {}: end -->"

Promise = dict[str, Any]


def identifiers() -> list[str]:
    return [f"{section}{number}" for section, (_, last) in SECTIONS.items() for number in range(1, last + 1)]


def read_promises() -> dict[str, Promise]:
    promises: dict[str, Promise] = {}
    for path in sorted(PROMISES.glob("*.toml")):
        for name, promise in tomllib.loads(path.read_text(encoding="utf-8")).items():
            assert name not in promises, f"{name} is promised twice"
            promises[name] = promise
    return promises


def find_tests() -> dict[str, list[str]]:
    """The tests of each promise, as ``folder/file.py::name``."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for match in _TEST.finditer(path.read_text(encoding="utf-8")):
            test = f"{path.relative_to(ROOT / 'tests')}::test_{match[1]}{match[2]}"
            for identifier in match[1].upper().split("_")[:-1]:
                if identifier[0] != FIGURE:
                    found.setdefault(identifier, []).append(test)
    return found


def problems(promises: dict[str, Promise], tests: dict[str, list[str]]) -> list[str]:
    """What is missing or contradicts itself, a line for each."""
    known = identifiers()
    lines = [f"{name}: no such promise is known" for name in {*promises, *tests} - set(known)]
    for name in known:
        promise = promises.get(name)
        if promise is None:
            lines.append(f"{name}: nothing is promised")
            continue
        if not promise.get("fault") or not promise.get("promise"):
            lines.append(f"{name}: needs a fault and a promise")
        if (name in tests) == ("waiting" in promise):
            lines.append(f"{name}: {'has a test and waits' if name in tests else 'has no test, and waits for nothing'}")
        switch = {"protection", "unswitchable"} & set(promise)
        if name in tests and name[0] in SWITCHED and len(switch) != 1:
            lines.append(f"{name}: says not, or twice, which failpoint switches its protection off")
    return sorted(lines)


def tables(promises: dict[str, Promise], tests: dict[str, list[str]]) -> str:
    parts = []
    for section, (title, last) in SECTIONS.items():
        rows = [_row(f"{section}{number}", promises, tests) for number in range(1, last + 1)]
        head = "| id | fault | promise | shown by | switched off by |\n|---|---|---|---|---|"
        parts.append(f"### {section}: {title}\n\n{head}\n" + "\n".join(rows))
    waiting = sum("waiting" in promise for promise in promises.values())
    shown = f"{len(promises)} promises, {len(promises) - waiting} shown by a test, {waiting} waiting."
    return "\n\n".join([shown, *parts])


def _row(name: str, promises: dict[str, Promise], tests: dict[str, list[str]]) -> str:
    promise = promises.get(name, {})
    shown = "<br>".join(f"`{test}`" for test in tests.get(name, [])) or f"*waiting*: {promise.get('waiting', '')}"
    given = promise.get("protection", [])
    switches = [given] if isinstance(given, str) else given
    switch = "<br>".join(f"`{point}`" for point in switches) or promise.get("unswitchable", "")
    cells = (name, promise.get("fault", ""), promise.get("promise", ""), shown, switch)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def figures() -> str:
    if not FIGURES.exists():
        return "They have not been taken yet."
    rows: list[dict[str, Any]] = json.loads(FIGURES.read_text(encoding="utf-8"))
    lines = ["| figure | what | goal | result | N | command |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = (row["id"], row["measure"], row["goal"], row["result"], row["n"], f"`{row['command']}`")
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def with_part(text: str, mark: str, part: str) -> str:
    begin, end = (form.format(mark) for form in _MARKS)
    before, _, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    assert closed, f"{PAGE.name} lacks its marks {begin.strip()} and {end}"
    return f"{before}{begin}{part}\n{end}{after}"


def page() -> str:
    promises, tests = read_promises(), find_tests()
    text = with_part(PAGE.read_text(encoding="utf-8"), "promises", tables(promises, tests))
    return with_part(text, "figures", figures())


def main() -> None:
    missing = problems(read_promises(), find_tests())
    if missing:
        sys.exit("\n".join(missing))
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif page() != PAGE.read_text(encoding="utf-8"):
        sys.exit(f"{PAGE.relative_to(ROOT)} is not up to date: run `make reliability`")


if __name__ == "__main__":
    main()
