"""What everybody is told of an attempt whose worker was lost: which task, which attempt, which process, and why."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from dremioframe.orchestration import WorkerLostError

if TYPE_CHECKING:
    from pathlib import Path


def note_pid(path: Path) -> None:
    """By a task: a line with its process."""
    with open(path, "a", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")


def noted_pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text(encoding="ascii").split()]


def check_lost(error: BaseException | None, task: str, attempt: int, pid: int, cause: str) -> Any:
    """``error`` says all that, in words and as attributes; it is returned."""
    assert isinstance(error, WorkerLostError)
    assert (error.task, error.attempt, error.pid) == (task, attempt, pid)
    text = str(error)
    assert text.startswith(f"task {task!r}, attempt {attempt}: its worker (pid {pid}) {cause}"), text
    return error
