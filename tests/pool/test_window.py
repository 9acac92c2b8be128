"""The window: wide for tiny calls, one for long ones, careful to grow, quick to fall."""

from __future__ import annotations

from dremioframe.orchestration.pool.window import Window


def grown(*durations_us):
    window = Window()
    for duration in durations_us:
        window.observe(1, duration * 1000)
    return window.size


def test_it_starts_with_one():
    assert Window().size == 1


def test_it_grows_at_most_fourfold_per_reply():
    window = Window()
    sizes = []
    for _ in range(5):
        window.observe(1, 1000)
        sizes.append(window.size)
    assert sizes == [4, 16, 64, 128, 128]


def test_long_calls_are_not_sent_ahead():
    assert grown(*[2_000] * 50) == 1
    assert grown(*[1_000_000] * 50) == 1


def test_it_holds_about_two_milliseconds():
    assert grown(*[200] * 50) == 9
    assert grown(*[500] * 50) == 3


def test_one_long_call_closes_it_and_tiny_ones_open_it_again():
    window = Window()
    window.observe(100, 100 * 10_000)
    window.observe(100, 100 * 10_000)
    window.observe(100, 100 * 10_000)
    assert window.size == 64
    window.observe(1, 10**9)
    assert window.size == 1
    for _ in range(20):
        window.observe(8, 8 * 10_000)
    assert window.size > 16


def test_stalled():
    window = Window()
    window.observe(1, 1000)
    window.stalled()
    assert window.size == 1


def test_a_call_that_took_no_time():
    assert grown(0, 0, 0) == 64
