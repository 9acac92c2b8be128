"""Leases that come and go: nobody keeps less than is there, nobody owes for ever."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("timeout_s", [3e6, 1e12, 1e300])
def test_a_timeout_may_be_longer_than_epoll_can_sleep(client, timeout_s):
    call_id = client.submit("out = b'done'", timeout_s=timeout_s)
    client.until(lambda: client.lease.started_at(call_id) is not None or call_id in client.ended)
    while call_id not in client.ended:
        client.turn(timeout_s)
    assert bytes(client.end(call_id).payload) == b"done"
