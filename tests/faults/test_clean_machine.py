"""However a run ends, nothing of it stays: no process, descriptor, shared memory or file. O17 to O21, O31."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # a later tool repeats these scenarios, so they are no part of the test

import scenarios_clean


def test_a_normal_end():
    scenarios_clean.end_normally()


def test_a_failed_run_that_raises():
    scenarios_clean.end_with_a_failure()


def test_an_exception_of_the_users_program_while_a_run_goes_on():
    scenarios_clean.end_by_exception()


def test_o17_a5_ctrl_c_once():
    scenarios_clean.interrupt_once()


def test_o18_ctrl_c_twice():
    assert scenarios_clean.interrupt_twice() < 60  # the grace is 600 s


def test_o19_sigterm():
    scenarios_clean.terminate(signal.SIGTERM)


def test_o21_sighup_from_a_terminal_that_is_closed():
    scenarios_clean.hang_up()


def test_o20_sigkill_of_the_coordinator():
    scenarios_clean.kill_coordinator()


def test_o20_sigkill_of_the_coordinator_while_the_fork_server_is_stopped():
    scenarios_clean.kill_coordinator_of_a_stopped_server()


def test_o20_sigkill_of_the_fork_server_and_of_the_coordinator():
    scenarios_clean.kill_both()


def test_o20_sigkill_of_the_sentry_and_of_the_coordinator():
    scenarios_clean.kill_sentry()


def test_o31_sigkill_of_all_three_leaves_no_worker_and_nothing_to_sweep_at_the_next_start():
    scenarios_clean.kill_all_guards()  # what tasks have started may be left, and is counted


def test_o7_sigkill_of_the_fork_server():
    scenarios_clean.kill_zygote()


@pytest.mark.parametrize(
    "scenario",
    [
        scenarios_clean.kill_coordinator_at_random,
        scenarios_clean.interrupt_once,
        scenarios_clean.interrupt_twice,
        scenarios_clean.kill_zygote,
        scenarios_clean.kill_both,
        scenarios_clean.kill_sentry,
    ],
    ids=lambda scenario: scenario.__name__,
)
def test_at_any_moment(scenario):
    """One moment of the many that trials take."""
    scenario(7)
