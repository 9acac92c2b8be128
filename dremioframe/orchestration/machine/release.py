"""When the value of a task is needed no more (``keep_results``).

What lives here: counters over the graph. What may not: the values, or what releasing one means.

A value may go when its task and all its direct downstreams have finished and no unfinished descendant takes
``context``. Call a task *attentive* while it, or a task below it, is unfinished and takes ``context``. Then everything
that holds a value is a neighbour, and one counter per task is enough::

    holds = 1 while the task itself is unfinished
          + its unfinished direct downstreams
          + its attentive direct downstreams
          + 1 for ever if it is a leaf and leaves are kept

A task stops being attentive once, and tells its upstreams then; so the whole run costs O(tasks + edges), and a counter
reaches zero once.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from ..dag.dag import Dag


KEEP_RESULTS: Final = ("all", "leaves", "none")


class ReleaseTracker:
    """Tells which values may go as tasks finish.

    Args:
        dag: The graph.
        keep_leaves: Values of tasks without downstreams stay.

    Example:
        >>> from dremioframe.orchestration.dag.dag import Dag
        >>> tracker = ReleaseTracker(Dag(["a", "b"], [(), (0,)]), keep_leaves=True)
        >>> tracker.task_finished(0), tracker.task_finished(1)
        ([], [0])
    """

    __slots__ = ("_dag", "_unfinished", "attentive_below", "holds", "keeps_leaves")

    keeps_leaves: Final[bool]

    #: Per task, what still holds its value; see above.
    holds: Final[list[int]]
    #: Per task, how many of its direct downstreams are attentive.
    attentive_below: Final[list[int]]

    def __init__(self, dag: Dag, *, keep_leaves: bool) -> None:
        self.keeps_leaves = keep_leaves
        self._dag = dag
        self._unfinished = bytearray(b"\1") * dag.n
        self.attentive_below = [0] * dag.n
        for task in reversed(dag.order):
            if dag.takes_context[task] or self.attentive_below[task]:
                for upstream in dag.upstreams[task]:
                    self.attentive_below[upstream] += 1
        self.holds = [
            1 + len(below) + attentive + (keep_leaves and not below)
            for below, attentive in zip(dag.downstreams, self.attentive_below, strict=True)
        ]

    def task_finished(self, task: int) -> list[int]:
        """The tasks whose values nothing holds any more now that ``task`` has ended, however it did."""
        self._unfinished[task] = False
        released: list[int] = []
        self._drop_hold(task, released)
        for upstream in self._dag.upstreams[task]:
            self._drop_hold(upstream, released)
        if self._dag.takes_context[task] and not self.attentive_below[task]:
            self._quieten(task, released)
        return released

    def _quieten(self, task: int, released: list[int]) -> None:
        takes_context, unfinished, attentive_below = self._dag.takes_context, self._unfinished, self.attentive_below
        quiet = [task]
        for lower in quiet:  # grows while it is walked
            for upstream in self._dag.upstreams[lower]:
                attentive_below[upstream] -= 1
                self._drop_hold(upstream, released)
                if not attentive_below[upstream] and not (takes_context[upstream] and unfinished[upstream]):
                    quiet.append(upstream)

    def _drop_hold(self, task: int, released: list[int]) -> None:
        self.holds[task] -= 1
        if not self.holds[task]:
            released.append(task)
