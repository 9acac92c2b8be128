"""Memory of the machine and of this process's control groups: what could still be had, and who was killed for it.

What lives here: reading and adding up. What may not: what follows from it (``shortage``, ``lifecycle``), and memory of
single processes (``footprint``).
"""

from __future__ import annotations

from . import cgroups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NamedTuple
else:
    from ..light_typing import NamedTuple

#: cgroup v1 says "no limit" by a number near 2**63.
_NO_LIMIT = 1 << 60

_LIMIT_AND_USE = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))

#: Cached files count as use, and are given up as soon as somebody wants the memory. v1 has the sums under other names.
_CACHE = (("inactive_file", "active_file"), ("total_inactive_file", "total_active_file"))


class Memory(NamedTuple):
    """What this process may use, in bytes.

    Attributes:
        available: What could still be had.
        total: What there is: of the machine, or of the tightest control group.
    """

    available: int
    total: int


class OomKills(NamedTuple):
    """How often the kernel's out-of-memory killer has struck.

    Attributes:
        kills: Processes that it has killed, ever.
        where: In what, in words.
    """

    kills: int
    where: str


def look(root: str = "") -> Memory:
    """What the machine has, or what the control groups leave if that is less.

    Raises:
        OSError: No descriptor to read it by.
    """
    available, total = _of_the_machine(root)
    for limit, used in _limits(root):
        available = min(available, max(0, limit - used))
        total = min(total, limit)
    return Memory(available, total)


def usable_memory_bytes(root: str = "") -> int:
    """Memory this process could still get.

    Raises:
        OSError: No descriptor to read it by.
    """
    return look(root).available


def oom_kills(root: str = "") -> OomKills | None:
    """Victims of the kernel's out-of-memory killer, as near to this process as is counted; None if nobody counts.

    A victim is counted before it is sent its SIGKILL, so whoever sees it dead finds it here. Version 2 counts the
    groups below too, version 1 the very group only.

    Raises:
        OSError: No descriptor to read it by.
    """
    for directory in cgroups.directories("memory", root):
        for name in ("memory.events", "memory.oom_control"):
            kills = cgroups.numbers(f"{directory}/{name}").get("oom_kill")
            if kills is not None:
                return OomKills(kills, "in this control group")
    kills = cgroups.numbers(f"{root}/proc/vmstat").get("oom_kill")
    return None if kills is None else OomKills(kills, "on this machine")


def _of_the_machine(root: str) -> tuple[int, int]:
    """What the kernel says could still be had, and what there is. Not by psutil: it is read before the first result."""
    available = total = _NO_LIMIT
    for line in cgroups.read(f"{root}/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
        elif line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
            break  # it comes after the other
    return available, total


def _limits(root: str) -> Iterator[tuple[int, int]]:
    """(limit, use) of each group that has a limit."""
    for directory in cgroups.directories("memory", root):
        for limit_file, used_file in _LIMIT_AND_USE:
            limit = cgroups.number(f"{directory}/{limit_file}")
            if limit is None or limit >= _NO_LIMIT:
                continue
            used = cgroups.number(f"{directory}/{used_file}")
            if used is not None:
                yield limit, max(0, used - _cached_files(directory))


def _cached_files(directory: str) -> int:
    stat = cgroups.numbers(f"{directory}/memory.stat")
    own, with_those_below = (sum(stat.get(name, 0) for name in names) for names in _CACHE)
    return max(own, with_those_below)
