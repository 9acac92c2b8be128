from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.append(str(HERE))  # for what test modules share


@pytest.fixture(scope="session")
def second_process() -> ModuleType:
    spec = importlib.util.spec_from_file_location("second_process", HERE / "second_process.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def worker(second_process: ModuleType) -> Iterator[object]:
    """A worker process that would import what this process has on its path, which the test modules are not."""
    with second_process.Worker() as started:
        yield started


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., str]:
    """Runs text as the script of another interpreter, with `Worker` at hand; returns what it printed."""

    def run(script: str, **modules: str) -> str:
        for name, text in modules.items():
            path = tmp_path / (name.replace("__", "/") + ".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(text))
        start = "from second_process import Worker\nfrom dremioframe.orchestration.payload import codec, references\n"
        (tmp_path / "script.py").write_text(start + textwrap.dedent(script))
        environment = {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{ROOT}"}
        done = subprocess.run(
            [sys.executable, "-W", "error", tmp_path / "script.py"],
            capture_output=True, text=True, timeout=100, env=environment, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Exception ignored" not in done.stderr  # a weak reference that reports after the tables are gone
        return done.stdout

    return run


@pytest.fixture
def round_trip(run_script: Callable[..., str]) -> Callable[[str], None]:
    """Defines what a text defines in a script, and sends what its `make()` makes to a worker and back, in two runs.

    The text's `check(made)` says whether it and its class are what they should be.
    """
    tour = """
with Worker() as worker:
    def work(given):
        assert check(given), "what arrived"
        made = make()
        assert check(made), "what was made there"
        return made

    assert check(make()), "the idiom itself"
    for _ in range(2):
        assert check(worker(work, make())), "what came back"
        worker.begin_run()
    assert check(make()), "what stayed at home"
"""

    def run(idiom: str) -> None:
        run_script(idiom + tour)

    return run
