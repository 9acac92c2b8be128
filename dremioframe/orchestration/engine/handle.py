"""A run that goes on in the background: what ``Pipeline.start`` returns.

What lives here: the thread that drives the run, and its end when the interpreter ends. What may not: the run itself.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading

from .. import failpoints
from ..errors import ExecutorClosedError
from .latch import Latch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import NoReturn

    from ..records import PipelineRun
    from .launch import Launch

#: Those that go on, and how long the end of the interpreter waits for each; copied in one step while their threads take
#: them out.
_active: dict[RunHandle, float | None] = {}
_registered = 0  # how often for the end of the interpreter

_POOLS = f"{__package__.rpartition('.')[0]}.pool.process_pool"

#: How long that waits for a run whose tasks nobody can stop, as those of other executors get a grace.
_INLINE_GRACE_S = 2.0

os.register_at_fork(after_in_child=_active.clear)  # what drives them is not in the child


class RunHandle:
    """A run that was started and goes on in the background.

    No signal handlers are installed for it; Ctrl-C while waiting on the handle leaves the run going. The end of the
    interpreter cancels it with the usual grace (two seconds for ``inline``, whose tasks cannot be stopped). It belongs
    to the process that started it: in a child made by ``os.fork``, where nothing drives the run, all that this handle
    offers raises ``ExecutorClosedError`` unless the run had ended before.

    Example::

        handle = pipeline.start(executor="process")
        if not handle.wait(60):
            handle.cancel()
        run = handle.result()
    """

    def __init__(self, launch: Launch, ended: Callable[[PipelineRun], None], raise_on_failure: bool) -> None:
        self._launch = launch
        self._ended = ended
        self._raise_on_failure = raise_on_failure
        self._error: BaseException | None = None
        self._trace: TracebackType | None = None
        self._done = Latch()
        self._pid = os.getpid()
        # A daemon: the interpreter joins other threads before it lets anybody cancel what they do.
        self._thread = threading.Thread(target=self._drive, name="dremioframe-run", daemon=True)
        _cancel_at_exit(self, None if launch.stops_tasks else _INLINE_GRACE_S)
        try:
            self._thread.start()
        except RuntimeError:  # no thread to be had, or the interpreter is ending
            _active.pop(self, None)
            launch.abandon()
            ended(launch.run)
            raise

    def __repr__(self) -> str:
        state = "ended" if self._done.is_set else "running"
        return f"<run of pipeline {self._launch.run.pipeline_name!r}: {state}>"

    def __reduce__(self) -> NoReturn:
        if failpoints.armed and failpoints.hit("handle.refusal"):
            raise TypeError
        raise TypeError("the handle of a run cannot leave the process that drives the run; send what result() gives")

    def _drive(self) -> None:
        try:
            self._launch.execute()
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
            self._error = error
            self._trace = error.__traceback__
        finally:
            self._ended(self._launch.run)
            _active.pop(self, None)
            self._done.set()

    @property
    def done(self) -> bool:
        """Whether the run has ended."""
        return self._has_ended()

    def cancel(self) -> None:
        """Stop the run: nothing new starts, running attempts get the grace period. Returns at once."""
        if not self._has_ended():
            self._launch.coordinator.cancel()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended, at most ``timeout`` seconds; says whether it has."""
        return self._has_ended() or self._done.wait(timeout) or self._has_ended()

    def _has_ended(self) -> bool:
        """Touches no lock: one that was held at a fork stays so in the child."""
        ended = self._done.is_set
        if not ended and os.getpid() != self._pid:
            name = self._launch.run.pipeline_name
            raise ExecutorClosedError(
                f"the handle of a run of pipeline {name!r} was used after fork: the run goes on in the parent process, "
                "and its end cannot be seen from here"
            )
        return ended

    def result(self, timeout: float | None = None) -> PipelineRun:
        """The run, once it has ended.

        Args:
            timeout: Most seconds to wait; None means no limit.

        Raises:
            TimeoutError: The run has not ended in time; it goes on.
            ExecutorClosedError: This is a forked child of the process whose run it is.
            WorkerStartError: No worker could be started.
            RunFailedError, RunCancelledError: With ``raise_on_failure=True``.
        """
        if not self.wait(timeout):
            raise TimeoutError(
                f"the run of pipeline {self._launch.run.pipeline_name!r} has not ended after {timeout} s"
            )
        if self._error is not None:
            raise self._error.with_traceback(self._trace)  # else that of each call would be added to it
        if self._raise_on_failure:
            self._launch.run.raise_for_failure()
        return self._launch.run


def _cancel_at_exit(handle: RunHandle, limit_s: float | None) -> None:
    """At the end of the interpreter, before that of the pools: last in, first out, and theirs comes with their module.

    Never taken back: a run that is started by another such function would take itself out of those still to come.
    """
    global _registered  # noqa: PLW0603 - it is the interpreter's state
    _active[handle] = limit_s
    wanted = 2 if _POOLS in sys.modules else 1
    if _registered < wanted:
        _registered = wanted
        atexit.register(_cancel_all)


def _cancel_all() -> None:
    handles = _active.copy()
    for handle in handles:
        handle.cancel()
    for handle, limit_s in handles.items():
        handle.wait(limit_s)
