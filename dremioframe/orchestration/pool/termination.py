"""Ending processes for certain, and saying in words how one ended.

What lives here: signals sent from the coordinator, always through a pidfd, never to a number that may have been reused,
and the translation of exit statuses. What may not: when to do it (``stopping``), and process groups, which only their
parent may signal safely (``zygote``).
"""

from __future__ import annotations

import select
import signal

from .. import failpoints
from .status_page import Farewell

#: Makes a worker write the stacks of its threads, from C, whatever it is doing. A real-time signal because tasks and
#: libraries use SIGUSR1 and SIGUSR2.
DUMP_SIGNAL = signal.SIGRTMIN + 11

_ADVICE: dict[int, str] = {
    signal.SIGKILL: "usually the kernel's out-of-memory killer, or somebody's kill -9",
    signal.SIGSEGV: "a crash in native code",
    signal.SIGBUS: "a crash in native code, or a mapped file that was cut short",
    signal.SIGABRT: "native code gave up",
    signal.SIGILL: "native code built for another CPU, or a crash",
    signal.SIGFPE: "an arithmetic error in native code",
    signal.SIGTERM: "told to end from outside",
    signal.SIGXCPU: "over its CPU limit",
    signal.SIGALRM: "a timer that the task had set and nobody caught",
    signal.SIGSYS: "a system call that this container forbids",
}

_FAREWELLS = {
    Farewell.CHANNEL_LOST: "its channel to the coordinator was closed or replaced by the task",
    Farewell.RUNNER_FAILED: "an internal error, printed to its standard error",
    Farewell.TERMINATED: "it was told to end by SIGTERM, from outside or by its task",
}


def send(pidfd: int, signum: int) -> None:
    """Signal a process; one that is gone is no error."""
    try:
        signal.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        return


def ask_to_end(pidfd: int) -> None:
    """Tell a worker to end; it may be stopped. One that has heard of it already takes no notice.

    SIGCONT comes last: a process that stops itself again and again would be back asleep before a later signal arrives,
    while those that are pending already are handled when it wakes.
    """
    send(pidfd, signal.SIGTERM)
    _wake(pidfd)


def ask_for_stacks(pidfd: int) -> None:
    """Have a worker write the stacks of its threads; it may be stopped."""
    send(pidfd, DUMP_SIGNAL)
    _wake(pidfd)


def _wake(pidfd: int) -> None:
    if not (failpoints.armed and failpoints.hit("termination.continue")):
        send(pidfd, signal.SIGCONT)


def resume(pidfd: int) -> None:
    """Let a process go on that somebody has stopped."""
    send(pidfd, signal.SIGCONT)


def has_ended(pidfd: int, within_s: float = 0.0) -> bool:
    """Whether the process is no more, now or after at most so long."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(0.0, within_s) * 1000))


def kill(pidfd: int) -> None:
    """End a process at once. Its group and descendants are the zygote's business, which sees it end."""
    send(pidfd, signal.SIGKILL)


def describe_exit(exit_code: int | None, signum: int | None, farewell: int = Farewell.NONE, evidence: str = "") -> str:
    """How a worker ended, and the likely reason, e.g. ``"was killed by SIGSEGV (a crash in native code)"``.

    Args:
        evidence: The reason, if something points to it.
    """
    reason = evidence or _FAREWELLS.get(farewell)
    if signum is not None:
        reason = reason or _ADVICE.get(signum)
        text = f"was killed by {_signal_name(signum)}"
    elif exit_code is not None:
        text = f"exited with code {exit_code}"
        if reason is None and exit_code == 0:
            reason = "something called os._exit in it, or ended the process in native code"
    else:
        text = "ended, and its exit status is unknown"
    return f"{text} ({reason})" if reason else text


def _signal_name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"
