"""The one import path: what is there, what type checkers see, and what an import costs."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dremioframe
from dremioframe import orchestration
from dremioframe.orchestration import errors

SOURCE = Path(orchestration.__file__)
NAMES = {
    "Task", "task", "Pipeline", "PipelineRun", "TaskRun", "AttemptRecord", "RunHandle", "ProcessExecutor",
    "ThreadExecutor", "InlineExecutor", "schedule_pipeline", "ScheduleHandle", "TaskState", "RunState", "SkipCause",
    "TriggerRule", "Context",
}  # fmt: skip


def _python(code: str) -> Any:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_all_names_are_there() -> None:
    public_errors = {name for name, value in vars(errors).items() if _is_error(value)}
    assert set(orchestration.__all__) == NAMES | public_errors
    assert orchestration.__all__ == sorted(orchestration.__all__)


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == errors.__name__


@pytest.mark.parametrize("name", orchestration.__all__)
def test_each_name_leads_to_the_thing_of_that_name(name: str) -> None:
    thing = getattr(orchestration, name)
    assert thing.__name__ == name
    assert getattr(orchestration, name) is thing
    assert inspect.getdoc(thing)
    assert name in dir(orchestration)


def test_type_checkers_are_told_the_same_names_and_homes() -> None:
    homes = {
        alias.name: f".{node.module}"
        for node in ast.walk(ast.parse(SOURCE.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module != "decorators"
        for alias in node.names
    }
    assert homes == orchestration._HOME_OF
    assert set(homes) | {"task"} == set(orchestration.__all__)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match=r"module 'dremioframe\.orchestration' has no attribute 'Pipelin'"):
        orchestration.Pipelin
    with pytest.raises(ImportError):
        from dremioframe.orchestration import Pipelin  # noqa: F401


def test_task_is_the_decorator_whatever_is_imported_first() -> None:
    for first in ("dremioframe.orchestration.task", "dremioframe.orchestration.pipeline", "dremioframe.orchestration"):
        script = f"""
import json, {first}
import dremioframe.orchestration.task
from dremioframe.orchestration import task, Task
from dremioframe.orchestration.task import Task as same
print(json.dumps([callable(task), Task is same]))
"""
        assert _python(script) == [True, True]


def test_import_star() -> None:
    assert set(orchestration.__all__) <= set(
        _python("import json; from dremioframe.orchestration import *; print(json.dumps(list(globals())))")
    )


def test_the_version_is_the_packages() -> None:
    import tomllib

    project = tomllib.loads((SOURCE.parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert dremioframe.__version__ == project["version"]
    assert (SOURCE.parents[1] / "py.typed").exists()


def test_importing_the_package_imports_nothing() -> None:
    script = """
import json, sys
before = set(sys.modules)
import dremioframe
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    assert _python(script) == ["dremioframe"]


def test_the_usual_import_loads_nothing_heavy() -> None:
    heavy = {
        "apscheduler", "asyncio", "cloudpickle", "dataclasses", "inspect", "json", "logging", "loguru",
        "multiprocessing", "numpy", "pandas", "psutil", "rich", "selectors", "subprocess", "tempfile", "uuid",
    }  # fmt: skip
    script = """
import sys
before = set(sys.modules)
from dremioframe.orchestration import Pipeline, Task, task
loaded = set(sys.modules) - before
import json
print(json.dumps(sorted(loaded)))
"""
    loaded = _python(script)
    assert not heavy.intersection(loaded)
    assert not [name for name in loaded if name.startswith("dremioframe.orchestration.executors.")]
