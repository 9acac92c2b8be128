"""Ways to end a run, each a function that raises AssertionError unless the machine is clean afterwards.

Clean: no process that descends from the run, no descriptor in a coordinator that lives on, no shared memory, no file.
Each function gives the seconds from the end's cause until the last process had ended. Only where all guards were killed
may children of tasks be left: the number says how many (``survivors``), and they are ended here. Random moments come
from ``seed``, so a failure can be repeated.

For tests (``test_clean_machine``) and for trials, which call them many times over; both put this folder on the path.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress

from household_seen import Household, Seconds

# ------------------------------------------------------------------------------------------------------------ scenarios


def end_normally() -> Seconds:
    """All tasks return and leave their families behind."""
    return _ends_by_itself("returns", "ended SUCCESS")


def end_with_a_failure() -> Seconds:
    """A task fails, and ``run`` raises."""
    return _ends_by_itself("fails", "failed 1")


def end_by_exception() -> Seconds:
    """The user's program raises while a run goes on that it has started in the background."""
    with Household("raises") as home:
        home.await_families()
        home.note_processes()
        began = time.monotonic()
        home.let_go_on()
        seconds = home.until_clean(began)
        assert "ValueError: in the user's program" in home.printed, home.printed
        assert home.exit_code == 1
        return seconds


def interrupt_once(seed: int | None = None) -> Seconds:
    """Ctrl-C at the terminal: at a random moment, or (None) when the families are complete."""
    with Household("waits") as home:
        home.await_moment(seed)
        home.note_processes()
        began = time.monotonic()
        home.press("\x03")
        seconds = home.until_clean(began)
        home.check_interrupted(seed)
        if seed is None:
            assert home.count("finally") == 2, home.told  # the grace was theirs
        return seconds


def interrupt_twice(seed: int | None = None) -> Seconds:
    """Ctrl-C twice; the tasks do not end by themselves, and the grace is ten minutes."""
    with Household("stubborn") as home:
        home.await_moment(seed)
        home.note_processes()
        home.press("\x03")
        if seed is None:
            home.await_told({"asked": 2})
        else:
            home.listen_for(random.Random(-seed).uniform(0, 0.05))
        began = time.monotonic()
        home.press("\x03")
        seconds = home.until_clean(began)
        if seed is None or home.exit_code != -signal.SIGINT:  # the second found no run that it could have ended
            home.check_interrupted(seed)
        return seconds


def terminate(signum: int) -> Seconds:
    """SIGTERM or SIGHUP from somewhere else: as Ctrl-C once, then the signal has its own effect."""
    with Household("waits") as home:
        home.await_families()
        home.note_processes()
        began = time.monotonic()
        os.kill(home.pid, signum)
        seconds = home.until_clean(began)
        assert home.exit_code == -signum, (home.exit_code, home.printed)
        assert home.count("finally") == 2, home.told
        return seconds


def hang_up() -> Seconds:
    """The terminal is closed: the kernel sends SIGHUP, and nothing can be printed any more."""
    with Household("waits") as home:
        home.await_families()
        home.note_processes()
        began = time.monotonic()
        home.close_terminal()
        seconds = home.until_clean(began)
        assert home.exit_code == -signal.SIGHUP, home.exit_code
        assert home.count("finally") == 2, home.told
        return seconds


def kill_coordinator() -> Seconds:
    """SIGKILL to the coordinator when the families are complete."""
    return _kill_coordinator(None)


def kill_coordinator_at_random(seed: int) -> Seconds:
    """SIGKILL to the coordinator at any moment, its start included."""
    return _kill_coordinator(seed)


def kill_coordinator_of_a_stopped_server() -> Seconds:
    """SIGKILL to the coordinator while its fork server is stopped: the sentry ends that."""
    with Household("waits") as home:
        home.await_families()
        home.freeze_guards()
        home.note_processes()
        began = time.monotonic()
        os.kill(home.pid, signal.SIGKILL)
        return home.until_clean(began)


def kill_zygote(seed: int | None = None) -> Seconds:
    """SIGKILL to the fork server: nothing of its workers' sessions stays, and the coordinator goes on."""
    with Household("waits") as home:
        home.await_moment(seed)
        guards = home.freeze_guards()
        began = time.monotonic()
        os.kill(guards.server, signal.SIGKILL)
        home.until_gone(guards.sessions)
        seconds = Seconds(time.monotonic() - began)
        if seed is None:
            home.until_ended()  # nothing was left to run
            assert "ended FAILED" in home.printed, home.printed
            home.check_kept()
        home.until_nobody()
        home.check_files()
        return seconds


def kill_both(seed: int | None = None) -> Seconds:
    """SIGKILL to coordinator and fork server together: the sentry is left."""
    return _kill_with_coordinator(seed, server=True, sentry=False)


def kill_sentry(seed: int | None = None) -> Seconds:
    """SIGKILL to coordinator and sentry together: the fork server is left, as soon as it has booted."""
    return _kill_with_coordinator(seed, server=False, sentry=True)


def kill_all_guards(seed: int | None = None) -> Seconds:
    """SIGKILL to coordinator, fork server and sentry together: no worker stays; children of tasks may."""
    return _kill_with_coordinator(seed, server=True, sentry=True)


def _ends_by_itself(ending: str, says: str) -> Seconds:
    with Household(ending) as home:
        home.await_families()
        home.note_processes()
        began = time.monotonic()
        home.let_go_on()
        seconds = home.until_clean(began)
        assert says in home.printed, home.printed
        home.check_kept()
        return seconds


def _kill_with_coordinator(seed: int | None, *, server: bool, sentry: bool) -> Seconds:
    with Household("waits") as home:
        home.await_moment(seed)
        guards = home.freeze_guards()
        began = time.monotonic()
        if sentry:
            os.kill(guards.sentry, signal.SIGKILL)
        with suppress(ProcessLookupError):  # as long as it boots it dies with the sentry
            os.kill(guards.server, signal.SIGKILL if server else signal.SIGCONT)
        os.kill(home.pid, signal.SIGKILL)
        if server and sentry:
            home.until_no_server()
            seconds = Seconds(time.monotonic() - began)
            seconds.survivors = home.count_survivors()
        else:
            home.until_gone(guards.sessions)
            seconds = Seconds(time.monotonic() - began)
            home.until_nobody()
        home.check_files()
        return seconds


def _kill_coordinator(seed: int | None) -> Seconds:
    with Household("waits") as home:
        home.await_moment(seed)
        home.note_processes()
        began = time.monotonic()
        os.kill(home.pid, signal.SIGKILL)
        return home.until_clean(began)
