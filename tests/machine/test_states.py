from __future__ import annotations

import pickle

import pytest

from dremioframe.orchestration.dag.trigger_rules import TriggerRule
from dremioframe.orchestration.machine.states import (
    ALLOWED_TRANSITIONS,
    UNDER_WAY,
    Phase,
    RunState,
    SkipCause,
    TaskState,
    render_state_diagram,
)


@pytest.mark.parametrize("kind", [TaskState, RunState, SkipCause, TriggerRule])
def test_public_enums_are_their_strings(kind: type[TaskState]) -> None:
    for member in kind:
        assert member == member.value == str(member) == f"{member}"
        assert hash(member) == hash(member.value)
        assert pickle.loads(pickle.dumps(member)) is member
        assert kind(str(member)) is member


def test_the_contract_names_these_states() -> None:
    assert list(TaskState) == ["PENDING", "RUNNING", "SUCCESS", "FAILED", "SKIPPED", "CANCELLED"]
    assert list(RunState) == ["RUNNING", "SUCCESS", "FAILED", "CANCELLED"]
    assert list(SkipCause) == ["UPSTREAM_FAILED", "RULE", "NOT_CHOSEN", "RAISED"]


def test_every_phase_has_a_public_state() -> None:
    assert [str(phase.task_state) for phase in Phase] == [
        *("PENDING", "PENDING", "RUNNING", "RUNNING", "RUNNING", "PENDING"),
        *("SUCCESS", "FAILED", "SKIPPED", "CANCELLED"),
    ]
    assert {phase for phase in Phase if phase.task_state is TaskState.RUNNING} == set(UNDER_WAY)


def test_terminal_phases_are_those_without_a_way_out() -> None:
    assert {phase for phase in Phase if phase.is_terminal} == set(Phase) - {start for start, _ in ALLOWED_TRANSITIONS}


def test_the_diagram_draws_the_table_and_nothing_else() -> None:
    lines = render_state_diagram().splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> PENDING"]
    assert "    RUNNING --> STOPPING_LIMIT: over a limit" in lines
    assert "    CANCELLED --> [*]" in lines
    assert len(lines) == 2 + len(ALLOWED_TRANSITIONS) + 4
    assert all(line.count(":") <= 1 and ";" not in line for line in lines)  # both would end a label
