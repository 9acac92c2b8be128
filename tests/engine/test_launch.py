"""What happens between ``run()`` and the first task: in which order, and what is left when that goes wrong."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from dremioframe.orchestration import DefinitionError, Pipeline, Task
from dremioframe.orchestration.engine import coordinator
from dremioframe.orchestration.errors import WorkerStartError
from dremioframe.orchestration.pool.zygote_client import ZygoteClient

IN_TIME = """
import sys
from dremioframe.orchestration import Pipeline, Task
from dremioframe.orchestration.pool.zygote_client import ZygoteClient

start = ZygoteClient.start
def noting(**options):
    ours = ("dremioframe.", "loguru", "cloudpickle")
    print(*(name.rpartition(".")[2] for name in sys.modules if name.startswith(ours)))
    return start(**options)
ZygoteClient.start = noting
assert Pipeline("p").add_task(Task("t", int)).run(executor="process", max_workers=1)["t"] == 0
"""


def test_the_fork_server_boots_while_the_engine_is_imported():
    done = subprocess.run([sys.executable, "-c", IN_TIME], capture_output=True, text=True, timeout=60, check=True)
    imported = set(done.stdout.split())
    assert {"launch", "compile"} <= imported  # what is wrong with the declaration is found before
    assert not imported & {"coordinator", "run_machine", "records", "supervisor", "codec", "cloudpickle", "loguru"}


def test_a_wrong_declaration_starts_no_process(monkeypatch):
    monkeypatch.setattr(ZygoteClient, "start", lambda **_options: pytest.fail("a process was started"))
    a, b = Task("a", int), Task("b", int)
    a.set_downstream(b).set_downstream(a)
    with pytest.raises(DefinitionError, match="cycle"):
        Pipeline("p").add_task(a).add_task(b).run(executor="process")


def test_what_was_started_is_ended_when_the_run_cannot_begin(monkeypatch):
    class Refusing:
        def __init__(self, *args, **kwargs):
            assert psutil.Process().children()
            raise KeyboardInterrupt

    monkeypatch.setattr(coordinator, "Coordinator", Refusing)
    with pytest.raises(KeyboardInterrupt):
        Pipeline("p").add_task(Task("t", int)).run(executor="process", max_workers=1)
    assert not psutil.Process().children()


def test_a_fork_server_that_cannot_be_started_is_told_by_the_run(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    pipeline = Pipeline("p").add_task(Task("t", int))
    with pytest.raises(WorkerStartError, match=r"sys\.executable"):
        pipeline.run(executor="process", max_workers=1)
    assert pipeline.last_run is not None
    assert pipeline.last_run.status == "CANCELLED"
