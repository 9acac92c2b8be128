"""Each wall of the house falls when it is pushed: a contract that nothing can break guards nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")

VIOLATIONS = [
    ("layers", "errors.py", "from .pipeline import Pipeline"),
    ("layers", "task.py", "def later():\n    from .compile import compile_tasks"),
    ("layers", "stray.py", ""),  # a module that no layer names
    ("core-apart", "machine/states.py", "from ..payload import codec"),
    ("core-apart", "dag/dag.py", "from ..pool import channel"),
    ("processes-apart", "payload/codec.py", "from ..task import Task"),
    ("processes-apart", "pool/channel.py", "from ..dag import dag"),
    ("payload-apart", "payload/codec.py", "from ..pool import channel"),
    ("dag-apart", "dag/dag.py", "from ..machine import states"),
    ("executors-blind", "executors/thread.py", "from . import process"),
    ("pure", "dag/dag.py", "import time"),
    ("pure", "machine/run_machine.py", "import random"),
    ("pure", "pool/frames.py", "import os"),
]


def lint(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [LINT_IMPORTS, "--no-cache", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "dremioframe", tmp_path / "dremioframe", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_an_untouched_copy_keeps_all_contracts(copy: Path) -> None:
    result = lint(copy)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(("contract", "module", "line"), VIOLATIONS)
def test_a_violation_is_reported(copy: Path, contract: str, module: str, line: str) -> None:
    path = copy / "dremioframe" / "orchestration" / module
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    result = lint(copy, "--contract", contract)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "1 broken" in result.stdout or "not listed as layers" in result.stdout, result.stdout


def test_every_contract_is_pushed() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = {contract["id"] for contract in pyproject["tool"]["importlinter"]["contracts"]}
    assert declared == {contract for contract, _, _ in VIOLATIONS}
