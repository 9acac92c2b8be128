"""The Nth call of a kind fails, in each of the three processes: no hang, no leak, an error that names it. F17."""

from __future__ import annotations

import exhaustion
import pytest

#: Where the calls of a kind are many, a spread of them; the others are gone through one by one. All: `make chaos`.
SPREAD = {
    ("coordinator", "open"): [1, 2, 5, 8, 11, 14, 17, 40, 80, 110],
    ("coordinator", "send"): [1, 2, 5, 9],
    ("worker", "send"): [1, 2, 4, 7, 12],
}
CASES = [(place, call) for place, calls in exhaustion.CALLS.items() for call in calls]


@pytest.fixture(scope="module", autouse=True)
def nothing_is_imported_for_the_first_time():
    exhaustion.learn_the_usual()


@pytest.mark.parametrize(("place", "call"), CASES)
def test_f17_nth_call_fails(place, call):
    numbers = SPREAD.get((place, call))
    assert exhaustion.exhaust(place, call, numbers) >= len(numbers or [1])
