"""How many calls may wait at one worker, from how long calls take. Pure.

One call in flight per worker costs a round trip of two wake-ups for every call; that is nothing for a call of 10 ms and
everything for one of 10 us. So tiny calls are sent ahead, long ones are not: the window is what a worker does in about
two milliseconds. It grows carefully (at most fourfold per reply: one tiny call says little) and falls at once.

What waits in an inbox is not lost to others: it can be taken back as long as it is unread. When nothing has been heard
for :data:`STALL_S` from a worker that holds more than one call, its calls are taken back, and the window starts anew at
one (``stalled``).
"""

from __future__ import annotations

#: The work that may wait at one worker, and the time a call costs besides its own duration.
_AHEAD_NS = 2_000_000
_OVERHEAD_NS = 3_000

_LARGEST = 128
_GROWTH = 4

#: Weight of the newest duration in the running mean.
_WEIGHT = 0.125

#: A worker that holds more than one call and has been silent for so long is running something long.
STALL_S = 0.002


class Window:
    """The window of one run, shared by its workers: they run the same mix of calls.

    Attributes:
        size: Calls that one worker may hold, the running one included; 1 to 128.
    """

    __slots__ = ("_mean_ns", "size")

    def __init__(self) -> None:
        self.size = 1
        self._mean_ns = -1.0

    def observe(self, calls: int, wall_ns: int) -> None:
        """So many calls, of one worker, took so long together."""
        newest, weight = wall_ns / calls, _WEIGHT * calls
        mean = self._mean_ns
        mean = newest if mean < 0 or weight >= 1.0 else mean + (newest - mean) * weight
        self._mean_ns = mean
        wanted = int(_AHEAD_NS / (mean + _OVERHEAD_NS))
        self.size = max(1, min(wanted, self.size * _GROWTH, _LARGEST))

    def stalled(self) -> None:
        """Calls waited behind a long one."""
        self.size = 1
