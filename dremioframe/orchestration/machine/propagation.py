"""What a finished task means for the tasks below it.

What lives here: what each task has seen of its upstreams, and the verdicts that follow. What may not: phases, the ready
queue, commands. A finished task is told once, through :meth:`Propagation.settle`, which answers with everything that is
decided by it. A skip decides further tasks, so verdicts are drained to a fixed point, breadth first and without
recursion.
"""

from __future__ import annotations

from ..dag.trigger_rules import K, U, Verdict, judge
from .states import SkipCause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from ..dag.dag import Dag

CAUSE_OF_SKIP: Final = {
    Verdict.SKIP_UPSTREAM_FAILED: SkipCause.UPSTREAM_FAILED,
    Verdict.SKIP_RULE: SkipCause.RULE,
}

#: How a task that never ran counts for its own downstreams.
_OUTCOME_OF_SKIP: Final = {Verdict.SKIP_UPSTREAM_FAILED: U, Verdict.SKIP_RULE: K}


class Propagation:
    """The verdict on every task of one run, as its upstreams finish.

    Example:
        >>> from dremioframe.orchestration.dag.dag import Dag
        >>> from dremioframe.orchestration.dag.trigger_rules import F
        >>> propagation = Propagation(Dag(["a", "b", "c"], [(), (0,), (1,)]))
        >>> propagation.roots()
        [0]
        >>> propagation.settle(0, F) == [(1, Verdict.SKIP_UPSTREAM_FAILED), (2, Verdict.SKIP_UPSTREAM_FAILED)]
        True
    """

    __slots__ = ("_dag", "seen", "unfinished", "verdicts")

    #: Per task, how many of its direct upstreams have not finished.
    unfinished: Final[list[int]]
    #: Per task, the outcomes of those that have, or-ed together (``S | F | U | K``).
    seen: Final[list[int]]
    #: Per task, what its rule says. WAIT gives way to something else once; after that it is final.
    verdicts: Final[list[Verdict]]

    def __init__(self, dag: Dag) -> None:
        self._dag = dag
        self.unfinished = list(map(len, dag.upstreams))
        self.seen = [0] * dag.n
        self.verdicts = [Verdict.WAIT] * dag.n

    def roots(self) -> list[int]:
        """Decide the tasks that need nothing to have happened: to be called once, before anything else."""
        verdicts = self.verdicts
        roots = [
            task
            for task, (rule, unfinished) in enumerate(zip(self._dag.rules, self.unfinished, strict=True))
            if not unfinished or judge(rule, 0, unfinished) is Verdict.RUN
        ]
        for task in roots:
            verdicts[task] = Verdict.RUN
        return roots

    def settle(self, finished: int, outcome: int) -> list[tuple[int, Verdict]]:
        """All tasks that are decided by ``finished`` having ended with ``outcome`` (one of ``S F U K``), in order.

        Tasks to be skipped are regarded as finished by the time this returns; tasks to be run have yet to be.
        """
        downstreams, rules = self._dag.downstreams, self._dag.rules
        unfinished, seen, verdicts = self.unfinished, self.seen, self.verdicts
        decided: list[tuple[int, Verdict]] = []
        news = [(finished, outcome)]
        for upstream, its_outcome in news:  # grows while it is walked
            for task in downstreams[upstream]:
                unfinished[task] -= 1
                seen[task] |= its_outcome
                if verdicts[task] is not Verdict.WAIT:
                    continue  # it runs already: an early rule
                verdict = judge(rules[task], seen[task], unfinished[task])
                if verdict is Verdict.WAIT:
                    continue
                verdicts[task] = verdict
                decided.append((task, verdict))
                if verdict is not Verdict.RUN:
                    news.append((task, _OUTCOME_OF_SKIP[verdict]))
        return decided
