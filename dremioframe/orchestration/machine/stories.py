"""What happened to each task, for error messages and for ``explain``.

What lives here: a bounded log of the transitions worth telling. The ordinary ones (ready, taken, succeeded) are left
out: they happen to every task, and recording them would cost more than making them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from .states import Phase

#: So many of a task's latest transitions are kept: a million retries stay bounded.
LENGTH: Final = 20


class Stories:
    """The latest out-of-the-ordinary transitions of each task of one run."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: Final[dict[int, list[str]]] = {}

    def add(self, task: int, before: Phase, after: Phase, why: str) -> None:
        """Tell one transition and its cause."""
        lines = self._lines.setdefault(task, [])
        lines.append(f"{before.name} -> {after.name}: {why}")
        del lines[:-LENGTH]

    def of(self, task: int) -> list[str]:
        """What is known of a task, oldest first."""
        return list(self._lines.get(task, ()))
