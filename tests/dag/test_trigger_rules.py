"""The rows as such; what they mean is checked through the machine in tests/machine/test_truth_table.py."""

from __future__ import annotations

from itertools import product

import pytest

from dremioframe.orchestration.dag.trigger_rules import RULES, F, K, S, TriggerRule, U, Verdict, judge


def test_there_are_twelve_rules_and_a_row_for_each() -> None:
    assert list(RULES) == list(TriggerRule)
    assert list(TriggerRule) == [
        *("all_success", "all_failed", "all_done", "all_done_min_one_success", "all_skipped", "one_failed"),
        *("one_success", "one_done", "none_failed", "none_failed_min_one_success", "none_skipped", "always"),
    ]


@pytest.mark.parametrize("rule", TriggerRule)
def test_without_upstreams_every_rule_runs(rule: TriggerRule) -> None:
    assert judge(rule, seen=0, unfinished=0) is Verdict.RUN


@pytest.mark.parametrize("rule", TriggerRule)
def test_a_verdict_stands_once_given(rule: TriggerRule) -> None:
    for seen, later in product(range(16), repeat=2):
        early = judge(rule, seen, unfinished=1)
        assert early in {Verdict.WAIT, Verdict.RUN}
        if early is Verdict.RUN:
            assert judge(rule, seen | later, unfinished=1) is Verdict.RUN
            assert judge(rule, seen | later, unfinished=0) is Verdict.RUN


def test_only_four_rules_start_early() -> None:
    early = {rule for rule in TriggerRule if judge(rule, S | F | U | K, unfinished=1) is Verdict.RUN}
    assert early == {"one_failed", "one_success", "one_done", "always"}
