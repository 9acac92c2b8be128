"""Whether the machine is short of memory: then nothing new is started beside what runs.

Not to keep tasks from running: with nothing under way one is started whatever is left, so a run always gets on, one
call at a time if need be. It keeps a run from being the one that makes the kernel kill somebody.

What lives here: when to look, and where short begins. What may not: reading (``memory``), and who gets the next call
(``dispatch``).
"""

from __future__ import annotations

import time

from .. import failpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .memory import Memory

_monotonic = time.monotonic

#: Short is less than a twentieth of what there is, or less than this if that is less.
_FLOOR_BYTES = 256 << 20
_FLOOR_SHARE = 20

_LOOK_S = 0.1


class Gauge:
    """The machine's memory as a pool sees it: looked at when somebody asks, ten times a second at most.

    Attributes:
        due: From when on who asks will have it looked at again.
        story: How short memory is, in words; empty if it is not.
    """

    __slots__ = ("_look", "due", "story")

    def __init__(self, look: Callable[[], Memory]) -> None:
        self._look = look
        self.due = 0.0
        self.story = ""

    def read(self) -> str:
        """The story as it is now, or was a moment ago. From any thread: at worst two of them look."""
        now = _monotonic()
        if now >= self.due:
            self.due = now + _LOOK_S
            self.story = self._tell()
        return self.story

    def _tell(self) -> str:
        if failpoints.armed and failpoints.hit("memory.shortage"):
            return ""
        try:
            available, total = self._look()
        except OSError:  # no descriptor to read it by; that is another shortage
            return ""
        floor = min(total // _FLOOR_SHARE, _FLOOR_BYTES)
        if available >= floor:
            return ""
        return (
            f"memory is short: {available >> 20:,} MiB of {total >> 20:,} MiB are left, the floor is "
            f"{floor >> 20:,} MiB; as long as that is so, no task is started beside those that run"
        )


class Shortage:
    """What a shortage means for one lease.

    Attributes:
        holding: Calls were told to wait because of it.
    """

    __slots__ = ("_gauge", "_told", "holding")

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._told = False
        self.holding = False

    @property
    def due(self) -> float:
        """When there is a point in asking again."""
        return self._gauge.due

    def is_on(self) -> bool:
        """Whether memory is short, as far as is known."""
        return bool(self._gauge.read())

    def is_over(self, now: float) -> bool:
        """Whether those who wait should ask again; true once for each time they were told to wait."""
        if not self.holding or now < self.due:
            return False
        self.holding = False
        return True

    def story(self) -> str:
        """What the user is to know, the first time; empty afterwards."""
        if self._told:
            return ""
        self._told = True
        return self._gauge.story
