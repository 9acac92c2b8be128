"""A pipeline at fixed intervals, over APScheduler.

What lives here: when to start a run, when not to, and how a schedule ends. What may not: what happens inside a run.

Division of labour: APScheduler decides when a slot is due and that runs never overlap. A run is started with
``Pipeline.start``, which leaves signal handlers alone, and waited for in a thread of the schedule; in blocking mode the
main thread has but to listen for signals. What APScheduler drops or coalesces is counted here and logged once per run.
Loaded on demand only, so it may import what it likes.
"""

# ruff: noqa: SLF001  # schedule_pipeline and its handle are one thing

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from apscheduler.events import EVENT_JOB_MAX_INSTANCES
from apscheduler.schedulers.background import BackgroundScheduler

from . import options as checks
from . import schedule_options
from .cadence import Every, Steady, ThreadPerRun, missed_in_words, quiet, skipped_in_words
from .engine.latch import Latch
from .engine.run_log import complain
from .errors import ExecutorClosedError, OrchestrationError, RunFailedError
from .listening import Listening
from .payload.traceback_text import format_error
from .pool.undisturbed import Undisturbed
from .waiting import LOOK_UP_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from .engine.handle import RunHandle
    from .pipeline import Pipeline
    from .records import PipelineRun

RUNS_KEPT = 10
_ENDED = 0  # no signal has this number
_EXIT_S = 2.0  # how long the end of the interpreter waits for a schedule


def schedule_pipeline(
    pipeline: Pipeline,
    interval_seconds: float | None = None,
    *,
    max_runs: int | None = None,
    blocking: bool = True,
    on_run: Callable[[PipelineRun], object] | None = None,
    **run_options: Any,
) -> ScheduleHandle:
    """Run a pipeline again and again, at a fixed interval. The first run starts at once.

    Runs never overlap: slots that come due while one goes on are skipped, and slots missed for any other reason (a
    suspended machine) are made up for by one run; both are logged. A run that fails or raises does not end it, but
    closing its executor does, at the next slot. With ``executor="process"`` one pool of workers stays warm.

    Args:
        pipeline: What to run.
        interval_seconds: Seconds from start to start, from 0.001 to 1e9.
        max_runs: End after so many runs have finished, however they ended; None means never.
        blocking: Return only when the schedule has ended. In the main thread SIGINT and SIGTERM then end it after the
            current run; a second one cancels that run, and from then on signals do what they did before. If False,
            return at once; no handlers are installed, and the schedule ends with the interpreter, like a daemon thread.
        on_run: Called with each finished run, in the schedule's thread. Its errors are logged.
        **run_options: Passed to every run: ``context``, ``executor``, ``max_workers``, ``timeout``, ...

    Returns:
        The schedule's handle; in blocking mode that of a schedule that has ended.

    Raises:
        DefinitionError: An argument makes no sense, or the pipeline cannot run as written; nothing was started.
        NestedRunError: Called in a worker process.
        TypeError: A run option does not exist.

    Example::

        schedule_pipeline(pipeline, interval_seconds=60, executor="process", timeout=50)
    """
    schedule_options.check(pipeline, on_run, run_options)
    interval_s = checks.interval("interval_seconds", interval_seconds)
    max_runs = checks.at_least_one("max_runs", max_runs)
    handle = ScheduleHandle(pipeline, interval_s, max_runs, on_run, run_options)
    if not blocking:
        handle._begin()
    elif threading.get_ident() == threading.main_thread().ident:
        handle._attend()
    else:
        handle._begin()
        handle.wait()
    return handle


class ScheduleHandle:
    """A schedule that goes on, or has ended.

    It belongs to the process that made it. In a child made by ``os.fork``, ``stop``, ``wait`` and ``next_run_at`` raise
    ``ExecutorClosedError`` unless it had ended before.

    Example::

        handle = schedule_pipeline(pipeline, interval_seconds=60, blocking=False)
        ...
        handle.stop()
        handle.wait()
        print([run.status for run in handle.runs])
    """

    def __init__(
        self,
        pipeline: Pipeline,
        interval_s: float,
        max_runs: int | None,
        on_run: Callable[[PipelineRun], object] | None,
        run_options: Mapping[str, Any],
    ) -> None:
        self._pipeline = pipeline
        self._max_runs = max_runs
        self._on_run = on_run
        self._own_executor = schedule_options.warm_executor(pipeline, run_options)
        self._options = {**run_options, **({"executor": self._own_executor} if self._own_executor else {})}
        self._lock = threading.Lock()  # guards the fields down to _finishing
        self._runs: deque[PipelineRun] = deque()
        self._begun = self._run_count = 0
        self._current: RunHandle | None = None
        self._runner: int | None = None  # identity of the thread of the run that goes on
        self._skipped = self._missed = 0  # slots, since they were last logged
        self._stopping = self._cancelling = self._finishing = False
        self._ended = Latch()
        self._pid = os.getpid()
        self._news: SimpleQueue[int] = SimpleQueue()  # signals and _ENDED: put() is safe in a signal handler
        self._zone = zone = Steady()  # not the wall clock's, which somebody may set
        self._scheduler = BackgroundScheduler(timezone=zone, logger=quiet(), executors={"default": ThreadPerRun()})
        self._scheduler.add_listener(self._note_skipped, EVENT_JOB_MAX_INSTANCES)
        self._every = Every(timedelta(seconds=interval_s), self._note_missed)
        self._job = self._scheduler.add_job(
            self._take_turn,
            trigger=self._every,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,  # however late: a run is never dropped
        )

    # ---------------------------------------------------------------------------------------------------- for users

    def stop(self, *, cancel: bool = False) -> None:
        """End the schedule after the run that goes on, if one does. Returns at once; signal handlers may call it, too.

        Args:
            cancel: Cancel that run, too.

        Example: ``handle.stop(); handle.wait()``.
        """
        if self._has_ended():
            return
        with Undisturbed():  # interrupted halfway, nobody would end it
            with self._lock:
                self._stopping = True
                self._cancelling = self._cancelling or cancel
                idle, current = self._runner is None, self._current
            if cancel and current is not None:
                current.cancel()
            if idle:
                self._finish()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the schedule has ended, at most ``timeout`` seconds; says whether it has.

        Raises:
            OrchestrationError: Called by ``on_run``, which the end would wait for in turn.

        Example: ``handle.wait(60)``.
        """
        if self._has_ended():
            return True
        if threading.get_ident() == self._runner:
            raise OrchestrationError("on_run cannot wait for the end of its own schedule; call stop() and return")
        return self._ended.wait(timeout) or self._has_ended()

    @property
    def next_run_at(self) -> datetime | None:
        """When the next slot is due (aware, local time), or None if no further run will start.

        Example: ``print(f"next run at {handle.next_run_at:%H:%M}")``.
        """
        if self._has_ended():
            return None
        over = self._stopping or (self._max_runs is not None and self._begun >= self._max_runs)
        due: datetime | None = None if over else getattr(self._job, "next_run_time", None)
        # The slot whose run has just begun stays there until APScheduler comes to write down the next one.
        return due and self._zone.on_the_wall(self._every.first_after(due, self._zone.now()))

    @property
    def runs(self) -> tuple[PipelineRun, ...]:
        """The latest ten finished runs, oldest first, with their values (see ``keep_results`` if those are large).

        Example: ``handle.runs[-1].status``.
        """
        return tuple(self._runs)  # one step, as far as other threads can see; a forked child could not take the lock

    @property
    def run_count(self) -> int:
        """How many runs have finished, however they ended.

        Example: ``handle.run_count``.
        """
        return self._run_count

    def __repr__(self) -> str:
        state = "ended" if self._ended.is_set else "stopping" if self._stopping else "on"
        return f"<schedule of pipeline {self._pipeline.name!r}: {state}, {self._run_count} runs>"

    # -------------------------------------------------------------------------------------------------- its own parts

    def _has_ended(self) -> bool:
        """Touches no lock: one that was held at a fork stays so in the child."""
        ended = self._ended.is_set
        if not ended and os.getpid() != self._pid:
            raise ExecutorClosedError(
                f"the schedule of pipeline {self._name!r} was used after fork: it goes on in the parent process, and "
                "can be neither ended nor waited for from here"
            )
        return ended

    def _begin(self) -> None:
        try:
            with Undisturbed():  # interrupted halfway, APScheduler could not even be ended
                atexit.register(self._end_with_interpreter)
                self._scheduler.start()
        except BaseException:  # a handler has raised, and nobody will have the schedule's handle
            self.stop(cancel=True)
            raise

    def _attend(self) -> None:
        """Begin, and listen for signals until the end; only in the main thread."""
        try:
            with Listening(self._news):
                self._begin()
                if self._hear() == _ENDED:
                    return
                with self._lock:  # in one step: no run begins after it was said that none goes on
                    self._stopping, goes_on = True, self._runner is not None
                after = ", after the run that goes on; a second signal cancels that" if goes_on else ""
                self._say("INFO", "schedule ends{}", after)
                self.stop()
                if self._hear() == _ENDED:
                    return
                self._say("WARNING", "schedule ends at once, a run that goes on is cancelled")
        except BaseException:  # another handler has raised, and nobody will have the schedule's handle
            self.stop(cancel=True)
            raise
        self.stop(cancel=True)
        self.wait()

    def _hear(self) -> int:
        """The next news. It looks up now and then: a signal just before a wait, or in another thread, ends none."""
        while True:
            try:
                return self._news.get(timeout=LOOK_UP_S)
            except Empty:
                self._has_ended()  # tells a forked child that it is not its own

    def _take_turn(self) -> None:
        """One slot, in a thread of its own."""
        with self._lock:
            if self._stopping:
                return
            self._runner = threading.get_ident()
            self._begun += 1
            missed, self._missed = self._missed, 0
        try:
            if missed:
                self._say("WARNING", "{}", missed_in_words(missed))
            self._report(self._run_once())
        finally:
            self._end_turn()

    def _end_turn(self) -> None:
        with self._lock:
            self._runner, stopping = None, self._stopping
            skipped, self._skipped = self._skipped, 0
        if skipped:
            self._say("WARNING", "{}", skipped_in_words(skipped))
        if stopping:
            self._finish()

    def _run_once(self) -> PipelineRun | None:
        run: PipelineRun | None = None
        error: BaseException | None = None
        try:
            handle = self._pipeline.start(**self._options)
            with self._lock:
                self._current, cancelling = handle, self._cancelling
            if cancelling:  # asked for while the run was being made
                handle.cancel()
            run = handle.result()
        except BaseException as raised:  # noqa: BLE001  # nothing a run does may end the schedule
            error = raised
            run = raised.run if isinstance(raised, OrchestrationError) else None
        closed = isinstance(error, ExecutorClosedError)
        gone = None  # let go of without the lock: what its values do when they die is the user's code
        with self._lock:
            self._current = None
            self._run_count += 1
            self._stopping = self._stopping or closed or self._run_count == self._max_runs
            if run is not None:
                gone = self._runs.popleft() if len(self._runs) == RUNS_KEPT else None
                self._runs.append(run)
        del gone
        if error is not None:
            ends = ", and the schedule ends: none can follow" if closed else ""
            self._tell("its scheduled run raised" + ends, error)
        return run

    def _report(self, run: PipelineRun | None) -> None:
        if self._on_run is None or run is None:
            return
        try:
            self._on_run(run)
        except BaseException as error:  # noqa: BLE001  # the user's code, and its errors are told, not obeyed
            self._tell("on_run raised", error)

    def _finish(self) -> None:
        with Undisturbed():  # interrupted halfway, it would never be said to have ended
            with self._lock:
                if self._finishing:
                    return
                self._finishing = True
            self._scheduler.shutdown(wait=False)
            if self._own_executor is not None:
                self._own_executor.close()
            atexit.unregister(self._end_with_interpreter)
            self._ended.set()
            self._news.put(_ENDED)

    def _end_with_interpreter(self) -> None:
        if os.getpid() == self._pid:  # not in a forked child, whose it is not
            self.stop(cancel=True)
            self._ended.wait(_EXIT_S)  # cancelled runs have their own grace; an on_run may never return

    def _note_skipped(self, _event: object) -> None:
        with self._lock:
            self._skipped += 1

    def _note_missed(self, slots: int) -> None:
        with self._lock:
            self._missed += slots

    @property
    def _name(self) -> str:
        return self._pipeline.name

    def _tell(self, what: str, error: BaseException) -> None:
        # As text: loguru's own way shows the values of all variables, whose __repr__ is more of the user's code.
        told = f"RunFailedError: {error}" if isinstance(error, RunFailedError) else format_error(error).rstrip()
        self._say("ERROR", "{}\n{}", what, told)

    def _say(self, level: str, text: str, *values: object) -> None:
        """Tell the user's sinks; one that raises ends nothing."""
        try:
            from loguru import logger

            logger.bind(pipeline=self._name).opt(depth=1).log(level, "pipeline {!r}: " + text, self._name, *values)
        except Exception:  # noqa: BLE001  # whatever it is
            complain()
