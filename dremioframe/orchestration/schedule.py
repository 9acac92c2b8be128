"""A pipeline at fixed intervals, over APScheduler.

What lives here: when to start a run, when not to, and how a schedule ends. What may not: anything about what happens
inside a run.

Division of labour: APScheduler decides when a slot is due and that runs never overlap. A run is started with
``Pipeline.start``, which touches no signal handlers, and waited for in a thread of the schedule; so in blocking mode
the main thread has nothing to do but to listen for signals. What APScheduler drops or coalesces is counted here and
logged once per run. This module is loaded on demand only, so it may import what it likes.
"""

# ruff: noqa: SLF001  # schedule_pipeline and its handle are one thing

from __future__ import annotations

import atexit
import inspect
import logging
import signal
import threading
from collections import deque
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from apscheduler.events import EVENT_JOB_MAX_INSTANCES
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from .compile import compile_tasks
from .engine.launch import RunOptions
from .errors import DefinitionError, OrchestrationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .engine.handle import RunHandle
    from .executors.process import ProcessExecutor
    from .pipeline import Pipeline
    from .records import PipelineRun

SHORTEST_INTERVAL_S = 0.001
LONGEST_INTERVAL_S = 1e9  # about 31 years: adding it to a date stays within the calendar
RUNS_KEPT = 10
_ENDED = 0  # no signal has this number


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

    Runs never overlap: slots that come due while a run goes on are skipped, and slots missed for any other reason (a
    suspended machine) are made up for by one run; both are logged. A run that fails, or raises, does not stop the
    schedule. With ``executor="process"`` one pool of workers stays warm for the schedule's life.

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
        TypeError: A run option does not exist.

    Example::

        schedule_pipeline(pipeline, interval_seconds=60, executor="process", timeout=50)
    """
    _check(pipeline, interval_seconds, max_runs, on_run, run_options)
    assert interval_seconds is not None
    handle = ScheduleHandle(pipeline, float(interval_seconds), max_runs, on_run, run_options)
    if not blocking:
        handle._begin()
    elif threading.current_thread() is threading.main_thread():
        handle._begin_and_attend()
    else:
        handle._begin()
        handle.wait()
    return handle


class ScheduleHandle:
    """A schedule that goes on, or has ended.

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
        self._own_executor = _warm_executor(pipeline, run_options)
        self._options = {**run_options, **({"executor": self._own_executor} if self._own_executor else {})}
        self._lock = threading.Lock()  # guards the fields down to _finishing
        self._runs: deque[PipelineRun] = deque(maxlen=RUNS_KEPT)
        self._begun = self._run_count = 0
        self._current: RunHandle | None = None
        self._runner: threading.Thread | None = None  # the thread of the run that goes on
        self._skipped = self._missed = 0  # slots, since they were last logged
        self._stopping = self._cancelling = self._finishing = False
        self._ended = threading.Event()
        self._news: SimpleQueue[int] = SimpleQueue()  # signals and _ENDED: put() is safe in a signal handler
        self._scheduler = BackgroundScheduler(timezone=UTC, logger=_quiet(), executors={"default": _ThreadPerRun()})
        self._scheduler.add_listener(self._note_skipped, EVENT_JOB_MAX_INSTANCES)
        self._every = _Every(timedelta(seconds=interval_s), self._note_missed)
        self._job = self._scheduler.add_job(
            self._take_turn,
            trigger=self._every,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,  # however late: a run is never dropped
        )

    # ---------------------------------------------------------------------------------------------------- for users

    def stop(self, *, cancel: bool = False) -> None:
        """End the schedule after the run that goes on, if one does. Returns at once; may be called again.

        Args:
            cancel: Cancel that run, too.

        Example: ``handle.stop(); handle.wait()``.
        """
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
        if threading.current_thread() is self._runner:
            raise OrchestrationError("on_run cannot wait for the end of its own schedule; call stop() and return")
        return self._ended.wait(timeout)

    @property
    def next_run_at(self) -> datetime | None:
        """When the next slot is due (aware, local time), or None if no further run will start.

        Example: ``print(f"next run at {handle.next_run_at:%H:%M}")``.
        """
        with self._lock:
            over = self._stopping or (self._max_runs is not None and self._begun >= self._max_runs)
        due: datetime | None = None if over else getattr(self._job, "next_run_time", None)
        # The slot whose run has just begun stays there until APScheduler comes to write down the next one.
        return due and self._every.first_after(due, datetime.now(UTC)).astimezone()

    @property
    def runs(self) -> tuple[PipelineRun, ...]:
        """The latest ten finished runs, oldest first, with their values (see ``keep_results`` if those are large).

        Example: ``handle.runs[-1].status``.
        """
        with self._lock:
            return tuple(self._runs)

    @property
    def run_count(self) -> int:
        """How many runs have finished, however they ended.

        Example: ``handle.run_count``.
        """
        with self._lock:
            return self._run_count

    def __repr__(self) -> str:
        state = "ended" if self._ended.is_set() else "stopping" if self._stopping else "on"
        return f"<schedule of pipeline {self._pipeline.name!r}: {state}, {self._run_count} runs>"

    # -------------------------------------------------------------------------------------------------- its own parts

    def _begin(self) -> None:
        atexit.register(self._end_with_interpreter)
        self._scheduler.start()

    def _begin_and_attend(self) -> None:
        """Begin, and listen for signals until the end; only in the main thread."""
        previous = {
            signum: signal.signal(signum, lambda number, _frame: self._news.put(number))
            for signum in (signal.SIGINT, signal.SIGTERM)
            if signal.getsignal(signum) not in {signal.SIG_IGN, None}
        }
        try:
            self._begin()
            if self._news.get() == _ENDED:
                return
            self._log().info("pipeline {}: schedule ends after the current run; a second signal cancels it", self._name)
            self.stop()
            if self._news.get() == _ENDED:
                return
            self._log().warning("pipeline {}: current run is cancelled", self._name)
        finally:
            for signum, disposition in previous.items():
                signal.signal(signum, disposition)
        self.stop(cancel=True)
        self.wait()

    def _take_turn(self) -> None:
        """One slot, in a thread of its own."""
        with self._lock:
            if self._stopping:
                return
            self._runner = threading.current_thread()
            self._begun += 1
            missed, self._missed = self._missed, 0
        try:
            if missed:
                self._log().warning("pipeline {}: {} due runs were missed; one makes up for them", self._name, missed)
            self._report(self._run_once())
        finally:
            self._end_turn()

    def _end_turn(self) -> None:
        with self._lock:
            self._runner = None
            skipped, self._skipped = self._skipped, 0
            stopping = self._stopping
        if skipped:
            self._log().warning("pipeline {}: {} due runs were skipped while one went on", self._name, skipped)
        if stopping:
            self._finish()

    def _run_once(self) -> PipelineRun | None:
        run: PipelineRun | None = None
        try:
            handle = self._pipeline.start(**self._options)
            with self._lock:
                self._current = handle
                cancelling = self._cancelling
            if cancelling:  # asked for while the run was being made
                handle.cancel()
            run = handle.result()
        except BaseException as error:  # noqa: BLE001  # nothing a run does may end the schedule
            run = getattr(error, "run", None)
            self._log().opt(exception=error).error("pipeline {}: its scheduled run raised", self._name)
        with self._lock:
            self._current = None
            self._run_count += 1
            self._stopping = self._stopping or self._run_count == self._max_runs
            if run is not None:
                self._runs.append(run)
        return run

    def _report(self, run: PipelineRun | None) -> None:
        if self._on_run is None or run is None:
            return
        try:
            self._on_run(run)
        except BaseException as error:  # noqa: BLE001  # the user's code, and its errors are told, not obeyed
            self._log().opt(exception=error).error("pipeline {}: on_run raised", self._name)

    def _finish(self) -> None:
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
        self.stop(cancel=True)
        self._ended.wait()

    def _note_skipped(self, _event: object) -> None:
        with self._lock:
            self._skipped += 1

    def _note_missed(self, slots: int) -> None:
        with self._lock:
            self._missed += slots

    @property
    def _name(self) -> str:
        return self._pipeline.name

    def _log(self) -> Any:
        from loguru import logger

        return logger.bind(pipeline=self._name)


class _Every(BaseTrigger):  # type: ignore[misc]  # APScheduler is untyped
    """Slots at fixed distances from the first one. Those already over are passed by in one step, and told."""

    def __init__(self, interval: timedelta, missed: Callable[[int], None]) -> None:
        self._interval = interval
        self._missed = missed
        self._told: datetime | None = None

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        if previous_fire_time is None:
            return now
        following = self.first_after(previous_fire_time + self._interval, now)
        passed_by = (following - previous_fire_time) // self._interval - 1
        if passed_by and self._told != previous_fire_time:  # APScheduler asks twice for each slot
            self._told = previous_fire_time
            self._missed(passed_by)
        return following

    def first_after(self, slot: datetime, now: datetime) -> datetime:
        """``slot`` itself if it is still to come, else the first one after ``now``."""
        return slot if slot > now else slot + ((now - slot) // self._interval + 1) * self._interval


class _ThreadPerRun(BaseExecutor):  # type: ignore[misc]  # APScheduler is untyped
    """A daemon thread for each run: a thread pool's are joined at exit before anybody may cancel what they do."""

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        threading.Thread(target=self._run, args=(job, run_times), name="dremioframe-schedule", daemon=True).start()

    def _run(self, job: Any, run_times: list[datetime]) -> None:
        self._run_job_success(job.id, run_job(job, "default", run_times, self._logger.name))


def _warm_executor(pipeline: Pipeline, run_options: Mapping[str, Any]) -> ProcessExecutor | None:
    executor = run_options.get("executor")
    if (pipeline.executor if executor is None else executor) != "process":
        return None
    from .executors.process import ProcessExecutor

    max_workers = run_options.get("max_workers")
    return ProcessExecutor(pipeline.max_workers if max_workers is None else max_workers)


def _quiet() -> logging.Logger:
    # Every skipped slot is a warning of APScheduler's; ours is one per run. A logger outside the hierarchy, so that
    # nothing of the user's configuration is touched.
    return logging.Logger("dremioframe.schedule", level=logging.ERROR)  # noqa: LOG001


def _check(
    pipeline: Pipeline, interval_seconds: object, max_runs: object, on_run: object, run_options: Mapping[str, Any]
) -> None:
    """Tell everything now that would otherwise be told again and again, run by run."""
    if isinstance(interval_seconds, bool) or not isinstance(interval_seconds, (int, float)):
        raise DefinitionError(f"interval_seconds must be a number of seconds, not {interval_seconds!r}")
    if not SHORTEST_INTERVAL_S <= interval_seconds <= LONGEST_INTERVAL_S:
        raise DefinitionError(f"interval_seconds must be from 0.001 to 1e9 seconds, not {interval_seconds!r}")
    if max_runs is not None and (type(max_runs) is not int or max_runs < 1):
        raise DefinitionError(f"max_runs must be a whole number of at least 1, or None, not {max_runs!r}")
    if on_run is not None and not callable(on_run):
        raise DefinitionError(f"on_run must be a function that takes a run, or None, not {on_run!r:.200}")
    given = inspect.signature(pipeline.start).bind(**run_options)
    given.apply_defaults()
    options = given.arguments
    RunOptions(
        options["context"],
        pipeline.executor if options["executor"] is None else options["executor"],
        options["max_workers"],
        options["timeout"],
        options["keep_results"],
    )
    compile_tasks(pipeline.tasks, options["context"])
