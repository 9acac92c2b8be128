"""Test a pipeline without processes and without waiting: the real engine on a simulated executor and a virtual clock.

Example::

    from dremioframe.orchestration.testing import SimulatedExecutor, fail, hang, lose_worker, succeed

    executor = SimulatedExecutor(workers=4, script={"load": [lose_worker(), fail(OSError("busy")), succeed("ok", 30)]})
    run = pipeline.run(executor=executor)
    assert run["load"] == "ok"
    assert len(run.tasks["load"].attempts) == 3     # no second has passed
"""

from __future__ import annotations

from .behaviour import Behaviour, call, exceed_memory, fail, hang, lose_worker, never_start, retry, skip, succeed
from .simulated import SimulatedExecutor, SimulatedSession

__all__ = [
    "Behaviour",
    "SimulatedExecutor",
    "SimulatedSession",
    "call",
    "exceed_memory",
    "fail",
    "hang",
    "lose_worker",
    "never_start",
    "retry",
    "skip",
    "succeed",
]
