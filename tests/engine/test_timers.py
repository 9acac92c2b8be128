from __future__ import annotations

from dremioframe.orchestration.engine.timers import RetryTimers


def test_due_in_order_and_equal_times_first_in_first_out():
    timers = RetryTimers()
    assert not timers
    for due_s, task in [(3.0, 30), (1.0, 10), (3.0, 31), (2.0, 20), (1.0, 11)]:
        timers.add(due_s, task, 1)
    assert timers.next_due_s() == 1.0
    assert timers.pop_due(0.5) == []
    assert timers.pop_due(2.0) == [(10, 1), (11, 1), (20, 1)]
    assert timers
    assert timers.next_due_s() == 3.0
    assert timers.pop_due(9.0) == [(30, 1), (31, 1)]
    assert not timers
    assert timers.next_due_s() is None
