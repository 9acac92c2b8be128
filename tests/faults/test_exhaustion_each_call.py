"""The Nth call of a kind fails, in each of the three processes: no hang, no leak, an error that names it. F17."""

from __future__ import annotations

import exhaustion
import pytest

#: Where the calls of a kind are many, each N is half as large again as the one before; others are gone through one by
#: one. How many there are depends on the machine (the coordinator opens a file for each process on it), but at least
#: so many of these N are reached. All of them: `make chaos`.
MANY = {("coordinator", "open"): 7, ("coordinator", "send"): 5, ("worker", "send"): 6}
CASES = [(place, call) for place, calls in exhaustion.CALLS.items() for call in calls]


@pytest.fixture(scope="module", autouse=True)
def nothing_is_imported_for_the_first_time():
    exhaustion.learn_the_usual()


@pytest.mark.parametrize(("place", "call"), CASES)
def test_f17_nth_call_fails(place, call):
    least = MANY.get((place, call))
    assert exhaustion.exhaust(place, call, exhaustion.sparse() if least else None) >= (least or 1)
