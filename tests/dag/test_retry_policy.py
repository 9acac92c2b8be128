from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from dremioframe.orchestration.dag.retry_policy import LONGEST_DELAY_S, NO_RETRY, RetryPolicy, clamp_delay_s


def delays(policy: RetryPolicy, attempts: int = 5, unit_random: float = 0.0) -> list[float]:
    return [policy.delay_s_before(attempt, unit_random) for attempt in range(1, attempts + 1)]


def test_defaults_are_those_of_the_contract() -> None:
    assert RetryPolicy() == NO_RETRY == (0, 1.0, 2.0, 300.0, 0.1)


def test_delay_grows_up_to_its_ceiling() -> None:
    assert delays(RetryPolicy(9, 1.0, 2.0, 5.0)) == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert delays(RetryPolicy(9, 3.0, 1.0, 300.0)) == [3.0] * 5
    assert delays(RetryPolicy(9, 8.0, 0.5, 300.0)) == [8.0, 4.0, 2.0, 1.0, 0.5]
    assert delays(RetryPolicy(9, 400.0)) == [300.0] * 5


def test_jitter_comes_after_the_ceiling() -> None:
    policy = RetryPolicy(9, 1.0, 10.0, 50.0, 0.5)
    assert delays(policy, 3, unit_random=0.0) == [1.0, 10.0, 50.0]
    assert delays(policy, 3, unit_random=0.5) == [1.25, 12.5, 62.5]


@pytest.mark.parametrize("attempt", [1, 2, 1_000, 2_000, 10**6, 10**400])
@pytest.mark.parametrize("delay_s", [0.0, 1e-300, 1.0, 1e308])
@pytest.mark.parametrize("backoff", [0.5, 1.0, 2.0, 1e308])
@pytest.mark.parametrize("max_delay_s", [0.0, 300.0, 1e308])
def test_overflow_is_clamped(attempt: int, delay_s: float, backoff: float, max_delay_s: float) -> None:
    delay = RetryPolicy(9, delay_s, backoff, max_delay_s, 1e308).delay_s_before(attempt, 0.999)
    assert 0.0 <= delay <= LONGEST_DELAY_S


def test_whole_numbers_do_not_grow_without_end() -> None:
    assert RetryPolicy(9, 1, 2, 300, 0).delay_s_before(10**9, 0.0) == 300


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"retries": -1}, "retries must be a whole number, 0 or more, not -1"),
        ({"retries": 1.0}, "retries must be a whole number, 0 or more, not 1.0"),
        ({"retries": True}, "retries must be a whole number, 0 or more, not True"),
        ({"delay_s": -0.5}, "retry_delay must be a finite number, 0 or more, not -0.5"),
        ({"delay_s": math.inf}, "retry_delay must be a finite number, 0 or more, not inf"),
        ({"delay_s": "1"}, "retry_delay must be a finite number, 0 or more, not '1'"),
        ({"backoff": math.nan}, "retry_backoff must be a finite number, above 0, not nan"),
        ({"backoff": 0}, "retry_backoff must be a finite number, above 0, not 0"),
        ({"max_delay_s": -1}, "retry_max_delay must be a finite number, 0 or more, not -1"),
        ({"max_delay_s": math.nan}, "retry_max_delay must be a finite number, 0 or more, not nan"),
        ({"jitter": True}, "retry_jitter must be a finite number, 0 or more, not True"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        RetryPolicy(**options)
    assert str(caught.value) == sentence


def test_it_pickles() -> None:
    policy = RetryPolicy(3, 0.5)
    again = pickle.loads(pickle.dumps(policy))
    assert (again, type(again)) == (policy, RetryPolicy)


def test_clamp() -> None:
    values = [-1.0, math.nan, 0.0, 2.5, 1e300, math.inf]
    assert [clamp_delay_s(value) for value in values] == [0.0, 0.0, 0.0, 2.5, LONGEST_DELAY_S, LONGEST_DELAY_S]
