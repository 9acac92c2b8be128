"""``docs/reliability-figures.json``: a list of {id, measure, goal, result, n, command}."""

from __future__ import annotations

import json
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / "docs" / "reliability-figures.json"


def note(figure: str, measure: str, goal: str, result: str, n: int, command: str) -> None:
    """Write one figure down, in place of an earlier one of the same id and measure."""
    noted = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else []
    noted = [each for each in noted if (each["id"], each["measure"]) != (figure, measure)]
    noted.append({"id": figure, "measure": measure, "goal": goal, "result": result, "n": n, "command": command})
    noted.sort(key=lambda each: (int(each["id"][1:]), each["measure"]))
    FILE.write_text(json.dumps(noted, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{figure} {measure}: {result} (goal {goal}; n = {n})", flush=True)
