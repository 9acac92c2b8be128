"""Every rule, every combination of up to four upstream outcomes, every order of arrival, through a real machine.

The oracle below was written from the contract's table, in its words, without looking at ``trigger_rules``. Outcomes:
S success, F failed, U skipped because something before it failed, K skipped for any other cause.
"""

from __future__ import annotations

from itertools import permutations, product

import pytest

from dremioframe.orchestration.dag.dag import Dag
from dremioframe.orchestration.dag.trigger_rules import TriggerRule
from dremioframe.orchestration.machine.invariants import check
from dremioframe.orchestration.machine.protocol import AttemptFailed, AttemptSkipped
from dremioframe.orchestration.machine.run_machine import RunMachine
from dremioframe.orchestration.machine.states import Phase, SkipCause, TaskState

RULES = [rule.value for rule in TriggerRule]

# ------------------------------------------------------------------------------------------------------------- oracle


def runs_in_the_end(rule: str, outcomes: str) -> bool:
    every, some = set(outcomes), set(outcomes).intersection
    match rule:
        case "all_success":
            return every <= {"S"}
        case "all_failed":
            return every <= {"F", "U"}
        case "all_done" | "always":
            return True
        case "all_done_min_one_success":
            return bool(some("S")) or not outcomes
        case "all_skipped":
            return every <= {"K"}
        case "one_failed":
            return bool(some("FU")) or not outcomes
        case "one_success":
            return bool(some("S")) or not outcomes
        case "one_done":
            return bool(some("SF")) or not outcomes
        case "none_failed":
            return every <= {"S", "K"}
        case "none_failed_min_one_success":
            return (every <= {"S", "K"} and bool(some("S"))) or not outcomes
        case "none_skipped":
            return not some("K")
    raise AssertionError(rule)


def otherwise(rule: str, outcomes: str) -> str:
    match rule:
        case "all_success" | "all_done_min_one_success" | "one_success" | "none_failed_min_one_success":
            return "U" if "F" in outcomes or "U" in outcomes else "K"
        case "one_done":
            return "U" if "U" in outcomes else "K"
        case "none_failed":
            return "U"
        case "all_failed" | "all_skipped" | "one_failed" | "none_skipped":
            return "K"
    raise AssertionError(f"{rule} never skips")


def starts_early(rule: str, arrived: str) -> bool:
    match rule:
        case "always":
            return True
        case "one_failed":
            return "F" in arrived or "U" in arrived
        case "one_success":
            return "S" in arrived
        case "one_done":
            return "S" in arrived or "F" in arrived
    return False


def expected(rule: str, arrived: str, upstreams: int) -> str:
    """``WAIT``, ``RUN``, ``U`` or ``K`` once these outcomes have arrived, in this order."""
    if len(arrived) < upstreams:
        return "RUN" if starts_early(rule, arrived) else "WAIT"
    return "RUN" if runs_in_the_end(rule, arrived) else otherwise(rule, arrived)


# ------------------------------------------------------------------------------------------------------------- driving


def build(outcomes: str) -> Dag:
    """For each outcome a feeder and an upstream that ends that way; below the upstreams one task per rule.

    An upstream that is to end as K is skipped by its own rule at even positions and raises ``SkipTask`` at odd ones.
    """
    n = len(outcomes)
    names = [f"feeder{i}" for i in range(n)] + [f"upstream{i}" for i in range(n)] + RULES
    upstreams: list[tuple[int, ...]] = [()] * n
    rules = [TriggerRule.ALL_SUCCESS] * n
    for i, outcome in enumerate(outcomes):
        upstreams.append((i,) if is_decided_by_feeder(i, outcome) else ())
        rules.append(TriggerRule.ALL_FAILED if outcome == "K" else TriggerRule.ALL_SUCCESS)
    upstreams += [tuple(range(n, 2 * n))] * len(RULES)
    return Dag(names, upstreams, rules=rules + [TriggerRule(rule) for rule in RULES])


def is_decided_by_feeder(position: int, outcome: str) -> bool:
    return outcome == "U" or (outcome == "K" and position % 2 == 0)


def deliver(machine: RunMachine, position: int, outcome: str) -> None:
    """Let the upstream at ``position`` end. Only then: feeders are told late."""
    upstream = position + machine.dag.index["upstream0"]
    match outcome:
        case "S":
            machine.succeeded([(upstream, 1)])
        case "F":
            machine.handle([AttemptFailed(upstream, 1, retryable=True)])
        case "U":
            machine.handle([AttemptFailed(position, 1, retryable=True)])
        case "K" if is_decided_by_feeder(position, outcome):
            machine.succeeded([(position, 1)])
        case "K":
            machine.handle([AttemptSkipped(upstream, 1)])


def verdict(machine: RunMachine, rule: str) -> str:
    task = machine.dag.index[rule]
    if machine.task_state(task) is TaskState.SKIPPED:
        return {SkipCause.UPSTREAM_FAILED: "U", SkipCause.RULE: "K"}[machine.skip_cause(task)]  # type: ignore[index]
    return "WAIT" if machine.phases[task] is Phase.PENDING else "RUN"


@pytest.mark.parametrize("upstreams", range(5))
def test_d10_verdict_in_every_order_of_arrival(upstreams: int) -> None:
    for outcomes in map("".join, product("SFUK", repeat=upstreams)):
        dag = build(outcomes)
        for order in permutations(range(upstreams)):
            machine = RunMachine(dag)
            machine.start()
            machine.take(dag.n)
            for delivered in range(upstreams + 1):
                if delivered:
                    deliver(machine, order[delivered - 1], outcomes[order[delivered - 1]])
                arrived = "".join(outcomes[i] for i in order[:delivered])
                found = {rule: verdict(machine, rule) for rule in RULES}
                assert found == {rule: expected(rule, arrived, upstreams) for rule in RULES}, (outcomes, order, arrived)
            check(machine)


def test_the_oracle_itself_does_not_depend_on_order() -> None:
    for rule, outcomes in product(RULES, map("".join, product("SFUK", repeat=4))):
        assert len({expected(rule, "".join(order), 4) for order in permutations(outcomes)}) == 1


@pytest.mark.parametrize("rule", RULES)
def test_starting_early_never_contradicts_the_verdict_in_the_end(rule: str) -> None:
    for outcomes in map("".join, product("SFUK", repeat=4)):
        for arrived in range(4):
            if starts_early(rule, outcomes[:arrived]):
                assert runs_in_the_end(rule, outcomes)
