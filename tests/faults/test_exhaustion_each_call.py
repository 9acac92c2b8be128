"""The Nth call of a kind fails, in each of the three processes: no hang, no leak, an error that names it. F17."""

from __future__ import annotations

import exhaustion
import pytest

#: Where the calls of a kind are many, a spread of them; the others are gone through one by one.
SPREAD = {
    ("coordinator", "open"): [1, 2, 5, 8, 11, 14, 17],
    ("coordinator", "send"): [1, 2, 5, 9],
    ("worker", "send"): [1, 2, 4, 7, 12],
}
CASES = {
    "coordinator": (
        "open", "socketpair", "memfd_create", "pwrite", "pwritev", "mmap", "posix_spawn", "send", "sendmsg", "register",
        "epoll", "pidfd_open", "eventfd", "eventfd_write", "truncate",
    ),
    "zygote": ("open", "fork", "sendmsg", "register", "epoll", "pidfd_open"),
    "worker": ("open", "memfd_create", "pwritev", "mmap", "send", "sendmsg"),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def nothing_is_imported_for_the_first_time():
    exhaustion.exhaust("coordinator", "eventfd", [10_000])


@pytest.mark.parametrize(("place", "call"), [(place, call) for place, calls in CASES.items() for call in calls])
def test_f17_nth_call_fails(place, call):
    assert exhaustion.exhaust(place, call, SPREAD.get((place, call))) >= 1
