"""One suite for all executors: what the contract says holds whichever runs the tasks."""

from __future__ import annotations

import pytest

EXECUTORS = ("inline", "thread", "process")


@pytest.fixture(params=EXECUTORS)
def executor(request):
    """Name of the executor under test."""
    return request.param
