"""Recorded and synthetic DAGs: read, put in order, scaled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks import recorded_workflows

if TYPE_CHECKING:
    from pathlib import Path


def test_a_recording_is_put_in_order(tmp_path: Path):
    tasks = [["last", 2.0, [1], 10], ["first", 1.0, [], 5_000_000]]
    (tmp_path / "one.json").write_text(json.dumps({"name": "one", "tasks": tasks}))
    (workflow,) = recorded_workflows.load(tmp_path)
    assert [(node.name, node.upstream) for node in workflow.nodes] == [("first", ()), ("last", (0,))]
    assert workflow.sinks() == [1]
    assert workflow.least_seconds(workers=2) == 3.0
    scaled = workflow.scaled_to(0.3, workers=2)
    assert [node.cpu_s for node in scaled.nodes] == pytest.approx([0.1, 0.2])
    assert scaled.nodes[0].output_bytes == recorded_workflows.MOST_OUTPUT_BYTES


def test_a_cycle_is_refused():
    node = recorded_workflows.Node
    with pytest.raises(ValueError, match="cycle"):
        recorded_workflows.in_order("odd", [node("a", 1.0, (1,), 0), node("b", 1.0, (0,), 0)])


def test_an_empty_folder_is_no_reason_to_invent_workflows(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        recorded_workflows.load(tmp_path)


def test_synthetic_workflows_are_the_same_every_time():
    assert recorded_workflows.load(None) == recorded_workflows.load(None)
    for workflow in recorded_workflows.load(None):
        assert all(above < index for index, node in enumerate(workflow.nodes) for above in node.upstream)
