"""When the slots of a schedule are due, and the thread each of them gets: what APScheduler is told.

What lives here: its clock, its trigger, its executor, its (silent) logger. What may not: pipelines and runs. Loaded on
demand only, by ``schedule``.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.triggers.base import BaseTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

#: Of the clocks that nobody can set the one that goes on while the machine is suspended. (APScheduler's sleep does not:
#: after a suspension it wakes late by what was left of that, and finds the slots that were missed.)
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

#: A clock on the wall that goes wrong by more has been set.
_SET = timedelta(seconds=0.1)


class Steady(tzinfo):
    """A time zone whose ``datetime.now`` shows the real time of when it was made, and since then never jumps.

    APScheduler asks for the time of day and nothing else; an interval has nothing to do with that, and a clock that is
    set back by an hour would stop a schedule for an hour. Moments of this zone compare and subtract with each other;
    none of another zone can be converted to it.
    """

    def __init__(self) -> None:
        self._began = datetime.now(UTC).replace(tzinfo=self)
        self._began_s = time.clock_gettime(_CLOCK)
        self._ahead = timedelta(0)  # the clock on the wall, of ours

    def fromutc(self, _time_of_day: datetime) -> datetime:
        """What ``datetime.now`` gives for what the clock on the wall shows."""
        return self._began + timedelta(seconds=time.clock_gettime(_CLOCK) - self._began_s)

    def utcoffset(self, _moment: datetime | None) -> timedelta:
        return timedelta(0)

    def dst(self, _moment: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, _moment: datetime | None) -> str:
        return "steady"

    def now(self) -> datetime:
        """What APScheduler takes for the time."""
        return datetime.now(self)

    def on_the_wall(self, moment: datetime) -> datetime:
        """When that is by the clock on the wall as it stands now (aware, local time)."""
        ahead = datetime.now(UTC).replace(tzinfo=self) - self.now()
        if abs(ahead - self._ahead) > _SET:  # else the same moment would be told differently each time
            self._ahead = ahead
        return (moment.replace(tzinfo=UTC) + self._ahead).astimezone()


class Every(BaseTrigger):  # type: ignore[misc]  # APScheduler is untyped
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


class ThreadPerRun(BaseExecutor):  # type: ignore[misc]  # APScheduler is untyped
    """A daemon thread for each run: a thread pool's are joined at exit before anybody may cancel what they do."""

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        threading.Thread(target=self._run, args=(job, run_times), name="dremioframe-schedule", daemon=True).start()

    def _run(self, job: Any, run_times: list[datetime]) -> None:
        self._run_job_success(job.id, run_job(job, "default", run_times, self._logger.name))


def quiet() -> logging.Logger:
    # Every skipped slot is a warning of APScheduler's; ours is one per run. A logger outside the hierarchy, so that
    # nothing of the user's configuration is touched.
    return logging.Logger("dremioframe.schedule", level=logging.ERROR)  # noqa: LOG001


def missed_in_words(slots: int) -> str:
    """What the run says that makes up for them."""
    return f"{_due_runs(slots)} missed; one makes up for {'it' if slots == 1 else 'them'}"


def skipped_in_words(slots: int) -> str:
    """What the run says that was in their way."""
    return f"{_due_runs(slots)} skipped while one went on"


def _due_runs(slots: int) -> str:
    return "1 due run was" if slots == 1 else f"{slots} due runs were"
