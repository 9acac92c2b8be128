"""Every ``>>>`` example in the docstrings of the pure core runs and says what it shows."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

PACKAGES = ["dremioframe.orchestration.dag", "dremioframe.orchestration.machine"]
MODULES = [
    found.name
    for name in PACKAGES
    for found in pkgutil.iter_modules(importlib.import_module(name).__path__, name + ".")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    examples = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(examples) >= 10
