"""The graph of one pipeline in dense form: tasks are numbers, everything about them sits in parallel tuples.

What lives here: edges in both directions, a topological order, the critical-path rank, and the options that decide
what runs when. What may not: actions, arguments, anything of a run. Built once per run by ``compile`` and shared by
machine, engine and executors; nothing in it ever changes.

Everything is linear in tasks plus edges and nothing recurses: a million tasks, or a chain of a million, is ordinary.
"""

from __future__ import annotations

from collections import deque

from .retry_policy import NO_RETRY
from .trigger_rules import TriggerRule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from .retry_policy import RetryPolicy

_NONE: Final[tuple[int, ...]] = ()  # shared by all tasks without neighbours


class CycleError(ValueError):
    """The edges form a cycle.

    Attributes:
        cycle: The tasks along the cycle, in the direction of the edges, the first one repeated at the end.
    """

    def __init__(self, cycle: tuple[int, ...]) -> None:
        super().__init__(f"tasks form a cycle: {' -> '.join(map(str, cycle))}")
        self.cycle = cycle

    def __reduce__(self) -> tuple[type[CycleError], tuple[tuple[int, ...]]]:
        return CycleError, (self.cycle,)


class Dag:
    """A frozen directed acyclic graph of tasks ``0 .. n - 1``, numbered in order of declaration.

    Args:
        names: Unique task names.
        upstreams: Per task, the tasks it waits for, in order of declaration. The same edge twice counts once.
        rules: Per task; by default all ``ALL_SUCCESS``.
        policies: Per task; by default no retries.
        priority: Per task, higher starts first; by default all 0.
        takes_context: Per task, whether its action asks for ``context``; by default none does.
        index: Name to number, for a caller that has it already.

    Raises:
        CycleError: The edges form a cycle.
        ValueError: A name occurs twice, or the sequences differ in length.

    Example:
        >>> dag = Dag(["extract", "transform", "load"], [(), (0,), (1,)])
        >>> dag.downstreams, dag.rank
        (((1,), (2,), ()), (2, 1, 0))
    """

    __slots__ = (
        "downstreams",
        "index",
        "n",
        "names",
        "order",
        "policies",
        "priority",
        "rank",
        "rules",
        "takes_context",
        "upstreams",
    )

    #: How many tasks there are.
    n: Final[int]
    #: Task to name.
    names: Final[tuple[str, ...]]
    #: Name to task.
    index: Final[dict[str, int]]
    #: Direct upstreams, in order of declaration, without repetition.
    upstreams: Final[tuple[tuple[int, ...], ...]]
    #: Direct downstreams, in order of declaration *of the downstream*.
    downstreams: Final[tuple[tuple[int, ...], ...]]
    #: All tasks, each after its upstreams.
    order: Final[tuple[int, ...]]
    #: Tasks on the longest path from here to a leaf, itself not counted: what the critical path still asks for.
    rank: Final[tuple[int, ...]]
    #: Higher starts first among ready tasks.
    priority: Final[tuple[int, ...]]
    rules: Final[tuple[TriggerRule, ...]]
    policies: Final[tuple[RetryPolicy, ...]]
    #: Whether the task's action asks for ``context``.
    takes_context: Final[tuple[bool, ...]]

    def __init__(
        self,
        names: Sequence[str],
        upstreams: Sequence[Sequence[int]],
        *,
        rules: Sequence[TriggerRule] | None = None,
        policies: Sequence[RetryPolicy] | None = None,
        priority: Sequence[int] | None = None,
        takes_context: Sequence[bool] | None = None,
        index: dict[str, int] | None = None,
    ) -> None:
        self.n = n = len(names)
        self.names = tuple(names)
        self.index = dict(zip(names, range(n), strict=True)) if index is None else index
        if len(self.index) != n:
            raise ValueError("task names must be unique")
        self.upstreams = tuple([tuple(dict.fromkeys(them)) if them else _NONE for them in upstreams])
        self.rules = (TriggerRule.ALL_SUCCESS,) * n if rules is None else tuple(rules)
        self.policies = (NO_RETRY,) * n if policies is None else tuple(policies)
        self.priority = (0,) * n if priority is None else tuple(priority)
        self.takes_context = (False,) * n if takes_context is None else tuple(takes_context)
        columns = (self.upstreams, self.rules, self.policies, self.priority, self.takes_context)
        if any(len(column) != n for column in columns):
            raise ValueError(f"every column must have one entry for each of the {n} tasks")
        self.downstreams = _reverse(self.upstreams)
        self.order = _topological_order(self.upstreams, self.downstreams)
        self.rank = _critical_path_rank(self.order, self.downstreams)

    def __repr__(self) -> str:
        return f"<Dag of {self.n} tasks, {sum(map(len, self.upstreams))} edges>"

    def ancestors(self, task: int) -> Iterator[int]:
        """All direct and indirect upstreams of ``task``, each once: direct ones first, then by growing distance.

        Example:
            >>> list(Dag(["a", "b", "c"], [(), (0,), (1, 0)]).ancestors(2))
            [1, 0]
        """
        found = dict.fromkeys(self.upstreams[task])
        queue = deque(found)
        while queue:
            nearest = queue.popleft()
            yield nearest
            fresh = [one for one in self.upstreams[nearest] if one not in found]
            found.update(dict.fromkeys(fresh))
            queue.extend(fresh)


def _reverse(upstreams: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    downstreams: list[list[int] | None] = [None] * len(upstreams)  # most tasks of a wide graph need no list
    for task, above in enumerate(upstreams):
        for upstream in above:
            if (below := downstreams[upstream]) is None:
                downstreams[upstream] = [task]
            else:
                below.append(task)
    return tuple([tuple(below) if below else _NONE for below in downstreams])


def _topological_order(
    upstreams: tuple[tuple[int, ...], ...], downstreams: tuple[tuple[int, ...], ...]
) -> tuple[int, ...]:
    waiting = list(map(len, upstreams))
    order = [task for task, count in enumerate(waiting) if not count]
    for task in order:  # grows while it is walked
        for downstream in downstreams[task]:
            waiting[downstream] -= 1
            if not waiting[downstream]:
                order.append(downstream)
    if len(order) != len(upstreams):
        raise CycleError(_find_cycle(upstreams, waiting))
    return tuple(order)


def _find_cycle(upstreams: tuple[tuple[int, ...], ...], waiting: list[int]) -> tuple[int, ...]:
    # Whatever still waits has an upstream that still waits too, so walking up must come back to where it was.
    path: dict[int, None] = {}
    task = next(task for task, count in enumerate(waiting) if count)
    while task not in path:
        path[task] = None
        task = next(upstream for upstream in upstreams[task] if waiting[upstream])
    walked = list(path)
    cycle = walked[walked.index(task) :][::-1]
    first = cycle.index(min(cycle))
    return (*cycle[first:], *cycle[:first], cycle[first])


def _critical_path_rank(order: tuple[int, ...], downstreams: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    rank = [0] * len(order)
    for task in reversed(order):
        if below := downstreams[task]:
            rank[task] = 1 + max([rank[downstream] for downstream in below])
    return tuple(rank)
