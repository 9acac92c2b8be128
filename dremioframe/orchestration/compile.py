"""Tasks as the user declared them -> the frozen :class:`~dremioframe.orchestration.dag.dag.Dag` of one run.

What lives here: every definition error that takes more than one task to see; what one task can tell alone is refused
by ``Task`` itself. What may not: anything that starts something. Linear, without recursion, about a microsecond a task.
"""

from __future__ import annotations

from .dag.dag import CycleError, Dag
from .dag.retry_policy import NO_RETRY, RetryPolicy
from .dag.trigger_rules import TriggerRule
from .errors import DefinitionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Final

    from .task import Task

#: An error names this many tasks in full and counts the rest: a wrong loop can make a million culprits.
_NAMED_AT_MOST: Final = 100

_RULES: Final[dict[str, TriggerRule]] = {rule.value: rule for rule in TriggerRule}


def compile_tasks(tasks: Sequence[Task], run_values: Mapping[str, object] | None = None) -> Dag:
    """Check a pipeline as a whole and freeze its graph.

    Args:
        tasks: All tasks, in order of declaration; they become ``0 .. n - 1``.
        run_values: The run's own values, which share the tasks' name space in ``context``.

    Raises:
        DefinitionError: A duplicate name, an edge to a task that is not among ``tasks``, a cycle, an unknown rule, a
            bad number, or a run value with a task's name. The text names every task concerned.

    Example::

        extract, load = Task("extract", read), Task("load", write)
        extract.set_downstream(load)
        compile_tasks([extract, load]).downstreams    # ((1,), ())
    """
    names = [task.name for task in tasks]
    index = dict(zip(names, range(len(names)), strict=True))
    if len(index) != len(names):
        raise DefinitionError(f"Pipeline contains duplicate task names: {_listed(_duplicates(names))}")
    if clashes := [_quoted(name) for name in run_values or () if name in index]:
        raise DefinitionError(f"run values must not be named like tasks: {_listed(clashes)}")
    try:
        return Dag(
            names,
            _upstreams(tasks, index),
            rules=_rules(tasks),
            policies=_policies(tasks),
            priority=_priorities(tasks),
            takes_context=_takes_context(tasks),
            index=index,
        )
    except CycleError as error:
        raise DefinitionError(f"Pipeline contains a cycle: {_path(names, error.cycle)}") from None


def _duplicates(names: Sequence[str]) -> Iterator[str]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return (f"{_quoted(name)} ({count} tasks)" for name, count in counts.items() if count > 1)


def _upstreams(tasks: Sequence[Task], index: Mapping[str, int]) -> list[Sequence[int]]:
    upstreams: list[Sequence[int]] = []
    edges_in = edges_out = 0
    for task in tasks:
        above = task.upstream
        if above:
            edges_in += len(above)
            # By name and then by identity: another task of the same name may have been added in its place.
            known = [i for one in above if (i := index.get(one.name)) is not None and tasks[i] is one]
            if len(known) != len(above):
                raise _dangling_edges(tasks)
            upstreams.append(known)
        else:
            upstreams.append(())
        edges_out += len(task.downstream)
    if edges_in != edges_out:  # all edges lead from inside, so some of them lead outside
        raise _dangling_edges(tasks)
    return upstreams


def _dangling_edges(tasks: Sequence[Task]) -> DefinitionError:
    added = set(map(id, tasks))
    edges = dict.fromkeys(
        f"{_quoted(up.name)} -> {_quoted(down.name)} ({_quoted((up if id(up) not in added else down).name)} is missing)"
        for task in tasks
        for up, down in (*((one, task) for one in task.upstream), *((task, one) for one in task.downstream))
        if id(up) not in added or id(down) not in added
    )
    return DefinitionError(
        f"Pipeline contains edges to tasks that were never added: {_listed(edges)}; add them with add_task()"
    )


def _rules(tasks: Sequence[Task]) -> list[TriggerRule]:
    try:
        return [_RULES[task.trigger_rule] for task in tasks]
    except (KeyError, TypeError):  # TypeError: not even hashable
        culprits = (
            f"task {_quoted(task.name)} has {task.trigger_rule!r:.200}"
            for task in tasks
            if task.trigger_rule not in list(_RULES)
        )
        text = f"unknown trigger rule: {_listed(culprits)}; the rules are {', '.join(_RULES)}"
        raise DefinitionError(text) from None


def _policies(tasks: Sequence[Task]) -> list[RetryPolicy]:
    known: dict[tuple[float, ...], RetryPolicy] = {}  # one object for all tasks that share their options
    return [_policy(task, known) if task.retries else NO_RETRY for task in tasks]


def _policy(task: Task, known: dict[tuple[float, ...], RetryPolicy]) -> RetryPolicy:
    options = (task.retries, task.retry_delay, task.retry_backoff, task.retry_max_delay, task.retry_jitter)
    policy = known.get(options)
    if policy is None:
        try:
            policy = known[options] = RetryPolicy(*options)
        except ValueError as error:
            raise DefinitionError(f"task {_quoted(task.name)}: {error}", task=task.name) from None
    return policy


def _priorities(tasks: Sequence[Task]) -> list[int]:
    priorities = [task.priority for task in tasks]
    if not set(map(type, priorities)) <= {int}:
        culprits = (
            f"task {_quoted(task.name)} has {task.priority!r:.200}" for task in tasks if type(task.priority) is not int
        )
        raise DefinitionError(f"priority must be a whole number: {_listed(culprits)}")
    return priorities


def _takes_context(tasks: Sequence[Task]) -> list[bool]:
    # By function, and what is bound of it: a wide pipeline has many tasks and few functions.
    known: dict[tuple[int, int, tuple[str, ...]], bool] = {}
    answers: list[bool] = []
    for task in tasks:
        asked = (id(task.action), len(task.args), tuple(task.kwargs) if task.kwargs else ())
        answer = known.get(asked)
        if answer is None:
            answer = known[asked] = task.takes_context
        answers.append(answer)
    return answers


def _path(names: Sequence[str], cycle: Sequence[int]) -> str:
    steps = [f"{names[task]:.200}" for task in cycle]
    if len(steps) > _NAMED_AT_MOST:
        left_out = len(steps) - _NAMED_AT_MOST
        steps[_NAMED_AT_MOST - 1 : -1] = [f"... ({left_out} more)"]
    return " -> ".join(steps)


def _listed(culprits: Iterable[str]) -> str:
    texts = list(culprits)
    if len(texts) > _NAMED_AT_MOST:
        texts[_NAMED_AT_MOST:] = [f"... ({len(texts) - _NAMED_AT_MOST} more)"]
    return ", ".join(texts)


def _quoted(name: object) -> str:
    return f"{name!r:.200}"
