"""How starting workers has been going: the delay before the next start, and when to give up.

After a worker that ended for nothing the next one waits a little, longer each time, so that whatever is wrong does not
eat the machine; the first that gets ready ends that. After three failed starts in a row with no worker alive there is
no hope, and whoever waits for one is told why. What may pass says less about the next start than a worker that gave up
by itself: somebody has killed it, or there was no descriptor for it. It takes more of those, about ten seconds of them.
One that failed for a reason which the next would meet too (a module that cannot be preloaded) ends the hope at once.

What lives here: counting. What may not: processes. Guarded by the lock of ``capacity``.
"""

from __future__ import annotations

import errno
import time

from .. import failpoints
from ..errors import WorkerStartError

#: What a system call says that this kernel does not have, or that a sandbox does not allow. It will not say otherwise
#: the next time.
_FORBIDDEN = frozenset((errno.ENOSYS, errno.EPERM, errno.EACCES))
_ADVICE = (
    "; workers need memfd_create, pidfd_open and prctl, and this kernel or sandbox lacks or forbids one of them: use "
    "executor='thread'"
)

_FAILURES_ALLOWED = 3
_PASSING_ALLOWED = 10  # with the delays below these take 9 s
_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 2.0


class Starts:
    """The record of one pool.

    Attributes:
        not_before: No worker may be started before this moment; 0 if none has failed yet.
    """

    __slots__ = ("_delay_s", "_failures", "_final", "_passing", "_why", "not_before")

    def __init__(self) -> None:
        self.not_before = 0.0
        self._failures = 0
        self._passing = 0
        self._final = False
        self._why = ""
        self._delay_s = _FIRST_DELAY_S

    def forgive(self) -> None:
        """A new run is a new try."""
        self._failures = self._passing = 0
        self._final = False

    def succeeded(self) -> None:
        """A worker is ready."""
        self._failures = self._passing = 0
        self._delay_s = _FIRST_DELAY_S

    def slow_down(self) -> None:
        """A worker ended for nothing: wait before the next start, longer each time."""
        self.not_before = time.monotonic() + self._delay_s
        self._delay_s = min(self._delay_s * 2, _LONGEST_DELAY_S)

    def failed(self, why: str, *, passing: bool = False, final: bool = False) -> None:
        """A worker could not be started. Why may be known only after :meth:`slow_down` was said.

        Args:
            why: In words, on the last line; what comes before that is its traceback.
            passing: Somebody has killed it, or the system was short of something.
            final: The next would fail for the same reason.
        """
        self._final = self._final or final
        if passing:
            self._passing += 1
        else:
            self._failures += 1
        self._why = why.strip() or "no reason is known"

    def refused(self, error: OSError | WorkerStartError) -> None:
        """No order could be given: the system is short of something, or lacks it altogether."""
        number = error.errno if isinstance(error, OSError) else None
        final = number in _FORBIDDEN and not (failpoints.armed and failpoints.hit("starts.forbidden"))
        advice = _ADVICE if final else ""
        self.failed(f"cannot start a worker: {error}{advice}", passing=number is not None, final=final)

    def must_wait(self) -> bool:
        """Whether the delay is not over, or there is nothing to wait for."""
        return self._final or time.monotonic() < self.not_before

    def hopeless(self, alive: int) -> bool:
        """Whether there is no point in another start, with so many workers alive or being started."""
        if failpoints.armed and failpoints.hit("starts.give_up"):
            return False
        tried = self._failures >= _FAILURES_ALLOWED or self._passing >= _PASSING_ALLOWED
        return not alive and (self._final or tried)

    def give_up(self) -> WorkerStartError:
        """What to tell those who wait for a worker. Said once; after that it is a new try."""
        failures = self._failures + self._passing
        self.forgive()
        times = f" ({failures} failed starts in a row)" if failures > 1 else ""
        return WorkerStartError(
            f"no worker process could be started{times}: {self._why.splitlines()[-1]}",
            boot_traceback=self._why,
        )
