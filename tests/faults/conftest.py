"""What the fault tests share: a gate, at which a process that has come to a failpoint waits."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dremioframe.orchestration import failpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Programs beside the tests that `make chaos` runs too, and that workers import.
sys.path.append(str(Path(__file__).parent))


class Gate:
    """A process that comes to the point waits here until the test lets it go on."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        for name in ("reached", "go"):
            os.mkfifo(folder / name)

    @property
    def action(self) -> str:
        """What to arm a point with."""
        return f"pause:{self.folder}"

    def wait(self) -> int:
        """Until a process is here; its process id."""
        with open(self.folder / "reached", encoding="ascii") as reached:
            return int(reached.read())

    def open(self) -> None:
        """Let the process go on."""
        with open(self.folder / "go", "wb"):
            pass


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """``arm(**{"point.name": "kill@2"})``: in this process and in all that start from now on."""

    outside = os.environ.get(failpoints.VARIABLE, "")  # a protection is switched off, to see tests fail

    def armed(**points: str) -> None:
        texts = [outside, *(f"{name}={action}" for name, action in points.items())]
        monkeypatch.setenv(failpoints.VARIABLE, ";".join(texts))
        failpoints.load()

    yield armed
    failpoints.load(outside)
