"""The twelve trigger rules, as data.

What lives here: what a task's direct upstreams may have done for it to run. What may not: how upstreams came to their
outcome, and what happens to a task after the verdict.

Theory of operation
-------------------
An upstream ends in one of four ways, and each is one bit::

    S  success
    F  failed after its last attempt
    U  skipped because something before it failed
    K  skipped for any other cause

No rule counts: each only asks which outcomes have been *seen*, and whether any upstream is still unfinished. So the
whole history of a task's upstreams is four bits and one number, a rule is one row of masks, and :func:`judge` is a
function of them. That is also why the verdict cannot depend on the order of arrival:

* bits are only ever added, so a RUN that needs a bit (the early rules) stays right whatever comes later;
* every other verdict, and every SKIP, is given only once nothing is unfinished, when the set of bits is complete.
"""

from __future__ import annotations

from enum import Enum, StrEnum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NamedTuple
else:
    from ..light_typing import NamedTuple

S: Final = 1
F: Final = 2
U: Final = 4
K: Final = 8


class TriggerRule(StrEnum):
    """When a task runs, judged by the outcomes of its direct upstreams.

    Equal to its plain string, so ``trigger_rule="all_done"`` and ``trigger_rule=TriggerRule.ALL_DONE`` mean the same.
    A task without upstreams always runs. A rule may start a task early; a task is skipped only when all its direct
    upstreams have finished. "Failed" below includes upstreams skipped because something before *them* failed, unless
    said otherwise.

    Example:
        >>> TriggerRule("one_failed") is TriggerRule.ONE_FAILED
        True
        >>> f"{TriggerRule.ALL_DONE}"
        'all_done'
    """

    ALL_SUCCESS = "all_success"
    """All succeeded (the default)."""
    ALL_FAILED = "all_failed"
    """All failed."""
    ALL_DONE = "all_done"
    """All finished, whatever the outcome: for clean-ups."""
    ALL_DONE_MIN_ONE_SUCCESS = "all_done_min_one_success"
    """All finished, at least one succeeded."""
    ALL_SKIPPED = "all_skipped"
    """All were skipped for a cause other than a failure before them."""
    ONE_FAILED = "one_failed"
    """At the first failure, without waiting for the rest: for alerts."""
    ONE_SUCCESS = "one_success"
    """At the first success, without waiting for the rest."""
    ONE_DONE = "one_done"
    """At the first that ran to its end, well or badly, without waiting for the rest."""
    NONE_FAILED = "none_failed"
    """All finished and none failed."""
    NONE_FAILED_MIN_ONE_SUCCESS = "none_failed_min_one_success"
    """All finished, none failed, at least one succeeded."""
    NONE_SKIPPED = "none_skipped"
    """All finished and none was skipped for a cause other than a failure before it."""
    ALWAYS = "always"
    """At once."""


class Verdict(Enum):
    """What a rule says of a task at one moment. Everything but WAIT is final."""

    WAIT = "wait"
    RUN = "run"
    SKIP_UPSTREAM_FAILED = "skip: upstream failed"  # the task counts as U for its own downstreams
    SKIP_RULE = "skip: rule not met"  # ... and as K


class Row(NamedTuple):
    """One rule. ``any_of`` and ``none_of`` are judged over all outcomes; ``early`` need not wait for them all."""

    any_of: int  # at least one of these must be seen; 0 asks for nothing
    none_of: int  # none of these may be seen
    early: bool  # run as soon as any_of holds
    blames: int  # if skipped: any of these seen makes it UPSTREAM_FAILED, otherwise RULE


_FAILURE: Final = F | U

RULES: Final[dict[TriggerRule, Row]] = {
    TriggerRule.ALL_SUCCESS: Row(any_of=0, none_of=F | U | K, early=False, blames=_FAILURE),
    TriggerRule.ALL_FAILED: Row(any_of=0, none_of=S | K, early=False, blames=0),
    TriggerRule.ALL_DONE: Row(any_of=0, none_of=0, early=False, blames=0),
    TriggerRule.ALL_DONE_MIN_ONE_SUCCESS: Row(any_of=S, none_of=0, early=False, blames=_FAILURE),
    TriggerRule.ALL_SKIPPED: Row(any_of=0, none_of=S | F | U, early=False, blames=0),
    TriggerRule.ONE_FAILED: Row(any_of=_FAILURE, none_of=0, early=True, blames=0),
    TriggerRule.ONE_SUCCESS: Row(any_of=S, none_of=0, early=True, blames=_FAILURE),
    TriggerRule.ONE_DONE: Row(any_of=S | F, none_of=0, early=True, blames=U),
    TriggerRule.NONE_FAILED: Row(any_of=0, none_of=_FAILURE, early=False, blames=_FAILURE),
    TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS: Row(any_of=S, none_of=_FAILURE, early=False, blames=_FAILURE),
    TriggerRule.NONE_SKIPPED: Row(any_of=0, none_of=K, early=False, blames=0),
    TriggerRule.ALWAYS: Row(any_of=0, none_of=0, early=True, blames=0),
}


def judge(rule: TriggerRule, seen: int, unfinished: int) -> Verdict:
    """The verdict of ``rule`` on a task.

    Args:
        rule: The task's rule.
        seen: The outcomes of its finished direct upstreams, or-ed together.
        unfinished: How many of its direct upstreams have not finished.

    Example:
        >>> judge(TriggerRule.ONE_SUCCESS, seen=S, unfinished=3)
        <Verdict.RUN: 'run'>
        >>> judge(TriggerRule.ALL_SUCCESS, seen=F, unfinished=3)
        <Verdict.WAIT: 'wait'>
    """
    any_of, none_of, early, blames = RULES[rule]
    if unfinished:
        return Verdict.RUN if early and (seen & any_of or not any_of) else Verdict.WAIT
    if not seen:  # no upstreams at all: the rule has nothing to object to
        return Verdict.RUN
    if (seen & any_of or not any_of) and not seen & none_of:
        return Verdict.RUN
    return Verdict.SKIP_UPSTREAM_FAILED if seen & blames else Verdict.SKIP_RULE
