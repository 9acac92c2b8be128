"""How long a call had run that did not end by itself."""

from __future__ import annotations

import os
import signal
import time

from dremioframe.orchestration.pool.events import CallLost, CallStopped


def test_a_lost_call_tells_how_long_it_ran(client):
    began = time.monotonic()
    call_id = client.start("import time; time.sleep(600)")
    ran_for = time.monotonic() - client.started_at(call_id)
    os.kill(client.workers[0].pid, signal.SIGKILL)
    lost = client.end(call_id)
    assert isinstance(lost, CallLost)
    assert ran_for <= lost.wall_s <= time.monotonic() - began


def test_a_stopped_call_tells_how_long_it_ran(client):
    began = time.monotonic()
    call_id = client.start("import time; time.sleep(600)")
    ran_for = time.monotonic() - client.started_at(call_id)
    client.lease.stop(call_id, dump=False)
    stopped = client.end(call_id)
    assert isinstance(stopped, CallStopped)
    assert ran_for <= stopped.wall_s <= time.monotonic() - began
