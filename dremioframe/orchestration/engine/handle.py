"""A run that goes on in the background: what ``Pipeline.start`` returns.

What lives here: the thread that drives the run, and its end when the interpreter ends. What may not: the run itself.
"""

from __future__ import annotations

import atexit
import os
import threading
from weakref import WeakSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..records import PipelineRun
    from .launch import Launch

_active: WeakSet[RunHandle] = WeakSet()
os.register_at_fork(after_in_child=_active.clear)  # what drives them is not in the child


class RunHandle:
    """A run that was started and goes on in the background.

    No signal handlers are installed for it; Ctrl-C while waiting on the handle leaves the run going. The end of the
    interpreter cancels it with the usual grace.

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
        self._done = threading.Event()
        # A daemon: the interpreter joins other threads before it lets anybody cancel what they do.
        self._thread = threading.Thread(target=self._drive, name="dremioframe-run", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no thread to be had, or the interpreter is ending
            launch.abandon()
            ended(launch.run)
            raise
        _cancel_at_exit(self)

    def __repr__(self) -> str:
        state = "ended" if self.done else "running"
        return f"<run of pipeline {self._launch.run.pipeline_name!r}: {state}>"

    def _drive(self) -> None:
        try:
            self._launch.execute()
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
            self._error = error
        finally:
            self._ended(self._launch.run)
            _active.discard(self)
            self._done.set()

    @property
    def done(self) -> bool:
        """Whether the run has ended."""
        return self._done.is_set()

    def cancel(self) -> None:
        """Stop the run: nothing new starts, running attempts get the grace period. Returns at once."""
        self._launch.coordinator.cancel()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended, at most ``timeout`` seconds; says whether it has."""
        return self._done.wait(timeout)

    def result(self, timeout: float | None = None) -> PipelineRun:
        """The run, once it has ended.

        Args:
            timeout: Most seconds to wait; None means no limit.

        Raises:
            TimeoutError: The run has not ended in time; it goes on.
            WorkerStartError: No worker could be started.
            RunFailedError, RunCancelledError: With ``raise_on_failure=True``.
        """
        if not self.wait(timeout):
            raise TimeoutError(
                f"the run of pipeline {self._launch.run.pipeline_name!r} has not ended after {timeout} s"
            )
        if self._error is not None:
            raise self._error
        if self._raise_on_failure:
            self._launch.run.raise_for_failure()
        return self._launch.run


def _cancel_at_exit(handle: RunHandle) -> None:
    _active.add(handle)
    # Last in, first out: registered anew each time, it comes before the end of any pool that the run may use.
    atexit.unregister(_cancel_all)
    atexit.register(_cancel_all)


def _cancel_all() -> None:
    handles = list(_active)
    for handle in handles:
        handle.cancel()
    for handle in handles:
        handle.wait()
