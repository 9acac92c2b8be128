"""Deadlines of one run on a monotonic clock, in one heap.

What lives here: what is due when. What may not: reading a clock.
"""

from __future__ import annotations

from heapq import heappop, heappush


class RetryTimers:
    """Retries that wait for their delay to pass: ``(task, attempt that ended)`` by due time.

    Equal times come out in the order in which they went in, so that a run does not depend on the heap's taste.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, int]] = []
        self._count = 0

    def add(self, due_s: float, task: int, attempt: int) -> None:
        self._count += 1
        heappush(self._heap, (due_s, self._count, task, attempt))

    def __bool__(self) -> bool:
        """Whether any retry waits."""
        return bool(self._heap)

    def next_due_s(self) -> float | None:
        """When the earliest is due, or None."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_s: float) -> list[tuple[int, int]]:
        """All that are due at ``now_s``, earliest first."""
        due = []
        while self._heap and self._heap[0][0] <= now_s:
            _, _, task, attempt = heappop(self._heap)
            due.append((task, attempt))
        return due
