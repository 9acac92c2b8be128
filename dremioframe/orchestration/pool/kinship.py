"""Who is whose child, and who dies with whom: prctl and /proc.

What lives here: the Linux calls that Python has no function for, and the listing of children. What may not: decisions.
"""

from __future__ import annotations

import os
import signal

from .. import failpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


#: The C function; found by :func:`load`.
_prctl: Callable[..., int] | None = None


def load() -> None:
    """Find prctl. Once in the zygote, so that no worker has to; never in the coordinator, which does not need it."""
    global _prctl  # noqa: PLW0603 - a function of the C library, not state
    import ctypes

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
    _prctl = prctl


def die_with_parent(parent_pid: int) -> bool:
    """Have the kernel kill this process when its parent dies; False if the parent is dead already.

    The signal is bound to the parent's *thread*, so this is for children of single-threaded processes only.
    """
    if not (failpoints.armed and failpoints.hit("kinship.deathsig")):
        _call(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    return os.getppid() == parent_pid or (failpoints.armed and failpoints.hit("kinship.parent"))


def outlive_parent() -> None:
    """Take back what :func:`die_with_parent` has asked for."""
    _call(_PR_SET_PDEATHSIG, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, in place of init."""
    _call(_PR_SET_CHILD_SUBREAPER, 1)


def children() -> list[int]:
    """Pids of this (single-threaded) process's children, zombies included.

    One that is born or dies meanwhile may be missing, and in rare cases its neighbour: ask again after each death.
    """
    pid = os.getpid()
    try:
        with open(f"/proc/self/task/{pid}/children", "rb") as listing:
            return [int(word) for word in listing.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [child for child in _all_pids() if (stat := read_stat(child)) is not None and stat[0] == pid]


def kill_child(pid: int) -> bool:
    """Kill a child that is not reaped, so the number is its own; False if it has become another user's."""
    try:
        if failpoints.armed:
            failpoints.hit("kinship.kill_child")
        os.kill(pid, signal.SIGKILL)
    except PermissionError:  # a program with the setuid bit, as sudo is
        return False
    return True


def end_children() -> None:
    """Kill and reap every child, and every orphan that comes to be one by that, until none is left that can be ended.

    For a process with SIGCHLD blocked that adopts orphans.
    """
    if failpoints.armed and failpoints.hit("kinship.end_children"):
        return
    hopeless: set[int] | None = None
    while True:
        before, hopeless = hopeless, _kill_children()
        try:
            while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG) is not None:
                hopeless = None  # its children are ours now
        except ChildProcessError:
            return
        if hopeless and hopeless == before:
            return  # they may be held, or live, for ever
        # A death is a (blocked, hence pending) SIGCHLD; the limit is for one that the listing has missed.
        signal.sigtimedwait((signal.SIGCHLD,), 0.02)


def _kill_children() -> set[int] | None:
    """Kill all children; gives who is left, if none of them can be waited for: a debugger's zombies, another user's."""
    try:
        listed = children()
        dead = {pid for pid in listed if is_dead(pid)}
    except OSError:
        return None  # no descriptor to look by: again in a moment
    killed = [pid for pid in listed if kill_child(pid) and pid not in dead]
    return None if killed else set(listed)


def is_dead(pid: int) -> bool:
    """Whether all threads of this child have ended. Its children are not ours before that, even if its first has ended.

    If it is, and cannot be waited for, a debugger holds it.
    """
    try:
        return all(_read_stat(f"{pid}/task/{tid}")[0] in b"ZX" for tid in os.listdir(f"/proc/{pid}/task"))
    except FileNotFoundError:
        return True


def session_members(sessions: frozenset[int]) -> list[int]:
    """Pids of all living processes of these sessions."""
    members = []
    for pid in _all_pids():
        stat = read_stat(pid)
        if stat is not None and stat[1] in sessions:
            members.append(pid)
    return members


def read_stat(pid: int) -> tuple[int, int] | None:
    """(parent, session) of a living process; None if there is none, or only a zombie is left."""
    state, parent, _, session = _read_stat(pid)
    return None if state in b"ZX" else (int(parent), int(session))


def read_state(pid: int) -> bytes:
    """What a process is doing, as the kernel's letter: ``R`` runs or wants to, ``T`` is stopped.

    Empty if it is gone, or if that cannot be known now (no descriptor to read it by).
    """
    try:
        return _read_stat(pid)[0]
    except OSError:
        return b""


def threads() -> list[int]:
    """Thread ids of this process, of any language."""
    return [int(tid) for tid in os.listdir("/proc/self/task")]


def _read_stat(pid: int | str) -> list[bytes]:
    """State, parent, process group and session; all empty if there is no such process (or ``PID/task/TID``)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            text = stat.read()
    except (FileNotFoundError, ProcessLookupError):
        return [b""] * 4
    # The command name, in parentheses, may contain anything, parentheses and blanks included.
    return text[text.rindex(b")") + 2 :].split(b" ", 4)[:4]


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _call(option: int, argument: int) -> None:
    if _prctl is None:
        load()
    assert _prctl is not None
    if _prctl(option, argument, 0, 0, 0) != 0:
        import ctypes

        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")
