"""Private memory of a process and of what descends from it, as the kernel's files in /proc tell it.

Two measures of the same thing. *Held*: anonymous pages in memory or swapped out; twenty microseconds, whatever the
size; pages that a process shares with one that it has forked count for both. *Share*: the same with each shared page
divided by how many have it, as far as the kernel tells; five milliseconds for 200 MB. A tree is measured by both: its
ancestor in full, and what descends from it by shares, less what they have in common with it. Files, shared memory and
inputs that are only read count nowhere.

What lives here: reading. What may not: limits (``memory_limits``), and memory of the machine (``memory``).
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Pid = int | str

# Bound now: workers read it too, after a task that may have replaced it.
_open = open
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PARENT, _START = 1, 19  # of the fields behind the command's name


def held_bytes(pid: Pid) -> int:
    """Anonymous memory of a process, swapped out or not; 0 if it is gone.

    A kernel that does not tell them apart (gVisor) has us count all pages: what is told too early is told at all.
    """
    path = f"/proc/{pid}/status"
    return _sum(path, (b"RssAnon:", b"VmSwap:")) or _sum(path, (b"VmRSS:",))


def shared_out(pid: int) -> tuple[int, int, int]:
    """Its anonymous memory, swapped out or not: (in full, its share, what of that is surely its own alone), in bytes.

    All three are what it holds if the kernel does not tell us more.
    """
    try:
        text = _read(_rollup(pid))
    except PermissionError:  # it has changed its user, or runs a program that only its user may read
        text = b""
    share = _summed(text, (b"Pss_Anon:", b"SwapPss:"))
    if not share:  # nothing lives without: a kernel that does not add it up, or a process that is gone
        held = held_bytes(pid)
        return held, held, held
    full = _summed(text, (b"Anonymous:", b"Swap:"))
    # Both are too little: pages of files and of shared memory are taken off in the first, those shared by more than
    # two in the second.
    unshared = _summed(text, (b"Private_Clean:", b"Private_Dirty:")) - _summed(text, (b"Pss_File:", b"Pss_Shmem:"))
    return full, share, min(share, max(0, unshared, 2 * share - full))


def tree_bytes(pids: tuple[int, ...]) -> dict[int, int]:
    """A process, the first of these, in full; what descends from it as far as it does not share with that.

    How much of a child's pages is shared with the first, and how much with other children, nobody tells. So what others
    have of the first one's pages is taken off what the children share; at worst all of it, if it is others than these
    (the fork server, say) that share them.
    """
    first, *family = pids
    ours = shared_out(first)
    sizes = {first: ours[0]}
    common = ours[0] - ours[1]
    for pid in family:
        theirs = shared_out(pid)
        if theirs == ours:  # in its first moment, before it runs its program, it is the same memory (vfork)
            sizes[pid] = 0
            continue
        _, share, unshared = theirs
        off = max(0, min(share - unshared, common))
        common -= off
        sizes[pid] = share - off
    return sizes


def peak_bytes(pid: int) -> int:
    """The high-water mark of its resident memory, of all kinds; 0 if it is gone."""
    return _sum(f"/proc/{pid}/status", (b"VmHWM:",))


def command(pid: int) -> str:
    """Its short name; empty if it is gone."""
    return _read(f"/proc/{pid}/comm").decode("utf-8", "replace").strip()


def ticks(started_ns: int) -> int:
    """A CLOCK_MONOTONIC time in the unit in which the kernel tells when processes have started."""
    since_boot_ns = started_ns + time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return since_boot_ns * _TICKS_PER_S // 1_000_000_000


def descendants(ancestors: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    """All that descends from each of these processes, without itself.

    Args:
        ancestors: (pid, start time in ticks before which a child does not count, nor what descends from it).
    """
    list_children = _listed if _has_lists() else _children_of_all().get
    families: dict[int, list[int]] = {}
    for ancestor, since in ancestors:
        family: list[int] = []
        pending = [ancestor]
        for pid in pending:  # grows while it is walked
            young = [child for child, start in list_children(pid) or () if start >= since and child not in family]
            family += young
            pending += young
        families[ancestor] = family
    return families


def _has_lists() -> bool:
    """Whether the kernel lists children (CONFIG_PROC_CHILDREN); else every process is asked for its parent."""
    return os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def _listed(pid: int) -> list[tuple[int, int]]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return []
    children = [int(word) for tid in threads for word in _read(f"/proc/{pid}/task/{tid}/children").split()]
    return [(child, int(stat[_START])) for child in children if (stat := _stat(child))]


def _children_of_all() -> dict[int, list[tuple[int, int]]]:
    children: dict[int, list[tuple[int, int]]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(name)):
            children.setdefault(int(stat[_PARENT]), []).append((int(name), int(stat[_START])))
    return children


def _stat(pid: Pid) -> list[bytes]:
    text = _read(f"/proc/{pid}/stat")
    # The command's name, in parentheses, may contain anything, parentheses and blanks included.
    return text[text.rindex(b")") + 2 :].split(b" ", _START + 1) if text else []


def _rollup(pid: int) -> str:
    """Shares, added up by the kernel; some have no such (until 4.13, without CONFIG_PROC_PAGE_MONITOR, gVisor)."""
    return f"/proc/{pid}/smaps_rollup"


def _sum(path: str, names: tuple[bytes, ...]) -> int:
    return _summed(_read(path), names)


def _summed(text: bytes, names: tuple[bytes, ...]) -> int:
    total = 0
    for name in names:
        at = text.find(b"\n" + name)
        if at >= 0:  # else a kernel that does not count this
            total += int(text[at + len(name) + 1 :].split(None, 1)[0])
    return total * 1024


def _read(path: str) -> bytes:
    """A file's content; empty if the process is gone.

    Raises:
        OSError: No descriptor to read it by, or it is not ours to read.
    """
    try:
        with _open(path, "rb", buffering=0) as file:
            return file.readall()
    except (FileNotFoundError, ProcessLookupError):
        return b""
