"""A worker's start pays for every import: what these modules may not load until it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

PACKAGE = "dremioframe.orchestration.payload"
HEAVY = (
    "asyncio cloudpickle dataclasses hashlib inspect json logging loguru pickle psutil re subprocess tempfile "
    "traceback typing uuid"
)


def loaded(script: str) -> set[str]:
    text = f"{script}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", text], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split()) & set(HEAVY.split())


@pytest.mark.parametrize("module", ["codec", "references", "segments", "failure"])
def test_nothing_heavy_is_imported(module: str) -> None:
    assert loaded(f"import {PACKAGE}.{module}") == set()


def test_values_and_code_that_go_by_name_need_nothing_heavy() -> None:
    script = f"""
import posixpath
from {PACKAGE} import codec, references
codec.decode(codec.encode([1, posixpath.join, ValueError("x")]).to_bytes(), private=False)
references.load_code(references.pack_code(posixpath.join))
references.digest(b"")
"""
    assert loaded(script) == set()


def test_a_token_needs_nothing_heavy_until_somebody_asks_for_its_code() -> None:
    assert loaded(f"from {PACKAGE} import codec\nclass A: pass\ncodec.encode([A(), lambda: 1])") == set()
