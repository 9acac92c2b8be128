"""The declaration of one task: what to call, how often, for how long, and after which other tasks.

What lives here: :class:`Task`. What may not: anything about a run; the one exception is :attr:`Task.status`, which
asks the latest one. Real pipelines have a million tasks, so a bare one costs a few slots and about two microseconds:
every check starts with "is it the default?", and edges are tuples until they are many.
"""

# ruff: noqa: SLF001  # an edge is kept at both of its ends, and only this file draws edges

from __future__ import annotations

from types import FunctionType

from . import options, signature
from .errors import DefinitionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Never, Protocol

    from .interfaces import RetryOn
    from .machine.states import TaskState

    # Direct neighbours in the order of declaration; a dict (as an ordered set) where they are many.
    Edges = tuple["Task", ...] | dict["Task", None]
else:
    from .light_typing import Protocol

_NO_ARGS: tuple[()] = ()
_NO_RETRIES = 0
_RETRY_DELAY_S = 1.0
_ALL_SUCCESS = "all_success"
_BACKOFF = 2.0
_MAX_DELAY_S = 300.0
_JITTER = 0.1
_PRIORITY = 0
_FEW_EDGES = 16


class StatusSource(Protocol):
    """What a task knows of the latest run it took part in; the engine puts it into ``Task._last_run``."""

    @property
    def is_active(self) -> bool:
        """True while the run goes on: its graph is frozen."""

    def state_of(self, name: str) -> TaskState:
        """State of the task of that name."""


class Task(signature.TaskLike):
    """One unit of work of a pipeline: a callable, its arguments, and how to treat its failures.

    Args:
        name: Any text; unique within a pipeline. It is the key of the result: ``run[name]``.
        action: What to call. If it has a parameter named ``context`` that is not bound already, it gets the run's
            values and the results of all upstream tasks there. ``async def`` and generator functions are refused.
        args: Positional arguments of the action.
        kwargs: Keyword arguments of the action.
        retries: Further attempts after the first one failed.
        retry_delay: Seconds before the first retry.
        trigger_rule: When to run, given how the direct upstream tasks ended; one of ``TriggerRule``.
        retry_backoff: Factor by which the delay grows from retry to retry; 1.0 keeps it fixed.
        retry_max_delay: Ceiling of one delay in seconds, before jitter.
        retry_jitter: Each delay is stretched by a random share in [0, retry_jitter].
        retry_on: Which errors are worth another attempt: a class, a tuple of classes, or ``(error) -> bool``.
        timeout: Seconds one attempt may take, from its real start; None means no limit.
        priority: Among ready tasks the higher one starts first.
        memory_limit: Private memory that one attempt may take, its child processes included: bytes, or text like
            ``"512MiB"`` or ``"2GB"``. It is looked at every 10 to 100 ms; what the worker held before does not count.
            None means no limit. Only with ``executor="process"``.
        on_kill: Called without arguments in the worker process when an attempt is stopped, before ``TaskCancelled``
            is raised in the action.

    Raises:
        DefinitionError: A value makes no sense, or there is no such option (then it is also a ``TypeError``); the
            message names the task and the option.

    Example::

        extract = Task("extract", lambda: [1, 2, 3], retries=2, timeout=30)
        load = Task("load", lambda context: print(context["extract"]))
        extract.set_downstream(load)
    """

    __slots__ = (
        "__weakref__",
        "_downstream",
        "_kwargs",
        "_last_run",
        "_upstream",
        "action",
        "args",
        "memory_limit",
        "name",
        "on_kill",
        "priority",
        "retries",
        "retry_backoff",
        "retry_delay",
        "retry_jitter",
        "retry_max_delay",
        "retry_on",
        "timeout",
        "trigger_rule",
    )

    def __init__(
        self,
        name: str,
        action: Callable[..., Any],
        args: Sequence[Any] = _NO_ARGS,
        kwargs: Mapping[str, Any] | None = None,
        retries: int = _NO_RETRIES,
        retry_delay: float = _RETRY_DELAY_S,
        trigger_rule: str = _ALL_SUCCESS,
        *,
        retry_backoff: float = _BACKOFF,
        retry_max_delay: float = _MAX_DELAY_S,
        retry_jitter: float = _JITTER,
        retry_on: RetryOn = Exception,
        timeout: float | None = None,
        priority: int = _PRIORITY,
        memory_limit: str | float | None = None,
        on_kill: Callable[[], object] | None = None,
        **unknown: Never,
    ) -> None:
        if unknown:
            options.unknown(f"task {name!r:.200}", unknown, OPTIONS)
        if type(name) is not str:
            name = options.task_name(name)
        if type(action) is not FunctionType or action.__code__.co_flags & signature.NOT_PLAIN:
            signature.check_action(name, action)
        self.name = name
        self.action = action
        self.args: tuple[Any, ...] = _NO_ARGS if args is _NO_ARGS else options.arguments(name, args)
        self._kwargs = None if kwargs is None else options.keyword_arguments(name, kwargs)
        self.retries = retries if retries is _NO_RETRIES else options.count(name, "retries", retries)
        self.trigger_rule = trigger_rule if trigger_rule is _ALL_SUCCESS else options.trigger_rule(name, trigger_rule)
        self.retry_delay, self.retry_backoff = retry_delay, retry_backoff
        self.retry_max_delay, self.retry_jitter = retry_max_delay, retry_jitter
        if not (
            retry_delay is _RETRY_DELAY_S
            and retry_backoff is _BACKOFF
            and retry_max_delay is _MAX_DELAY_S
            and retry_jitter is _JITTER
        ):
            options.check_delays(self)
        self.retry_on: RetryOn = retry_on if retry_on is Exception else options.retry_on(name, retry_on)
        self.timeout = None if timeout is None else options.time_limit(name, "timeout", timeout)
        self.priority = priority if priority is _PRIORITY else options.whole(name, "priority", priority)
        self.memory_limit = None if memory_limit is None else options.memory_limit(name, memory_limit)
        self.on_kill = None if on_kill is None else options.callback(name, "on_kill", on_kill)
        self._upstream: Edges = _NO_ARGS
        self._downstream: Edges = _NO_ARGS
        self._last_run: StatusSource | None = None

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the action. Example: ``Task("t", f, kwargs={"n": 1}).kwargs == {"n": 1}``."""
        return {} if self._kwargs is None else self._kwargs

    @property
    def upstream(self) -> tuple[Task, ...]:
        """Tasks directly before this one, in the order in which the edges were drawn; each once.

        Example: after ``a.set_downstream(b)``, ``b.upstream == (a,)``.
        """
        edges = self._upstream
        return edges if type(edges) is tuple else tuple(edges)

    @property
    def downstream(self) -> tuple[Task, ...]:
        """Tasks directly after this one, in the order in which the edges were drawn; each once.

        Example: after ``a.set_downstream(b)``, ``a.downstream == (b,)``.
        """
        edges = self._downstream
        return edges if type(edges) is tuple else tuple(edges)

    def set_downstream(self, other: Task) -> Task:
        """Draw an edge: ``other`` runs after this task. The same edge twice counts once.

        Returns:
            ``other``, so that it chains: ``a.set_downstream(b).set_downstream(c)``.

        Raises:
            DefinitionError: ``other`` is no task, or one of both takes part in a run that goes on.

        Example::

            extract.set_downstream(transform).set_downstream(load)
        """
        _draw_edge(self, other)
        return other

    def set_upstream(self, other: Task) -> Task:
        """Draw an edge: this task runs after ``other``. The same edge twice counts once.

        Returns:
            This task, so that ``c.set_upstream(a).set_upstream(b)`` puts it after both.

        Raises:
            DefinitionError: ``other`` is no task, or one of both takes part in a run that goes on.

        Example::

            report.set_upstream(sales).set_upstream(returns)
        """
        _draw_edge(other, self)
        return self

    @property
    def takes_context(self) -> bool:
        """True if the action has a parameter ``context`` that is not bound yet; ``**kwargs`` does not count.

        Example: ``Task("t", lambda context=None: 1).takes_context`` is True.
        """
        return signature.takes_context(self.action, len(self.args), self._kwargs or _NO_ARGS)

    @property
    def status(self) -> TaskState:
        """State in the latest run: PENDING (also before any run), RUNNING, SUCCESS, FAILED, SKIPPED or CANCELLED.

        Example: after a good run ``extract.status == "SUCCESS"``.
        """
        if self._last_run is not None:
            return self._last_run.state_of(self.name)
        from .machine.states import TaskState

        return TaskState.PENDING

    def run(self, context: Mapping[str, object] | None = None) -> Any:
        """Run this task alone, here and now, with its retries and their delays. For tests and for trying things out.

        Edges, trigger rule and ``memory_limit`` play no part. An attempt over its ``timeout`` is not interrupted; it
        fails with ``TaskTimeoutError`` when it returns.

        Args:
            context: What the action finds in its ``context``, if it takes one: values by name.

        Returns:
            What the action returned.

        Raises:
            BaseException: What the last attempt raised, as it was raised. ``SkipTask`` and ``FailTask`` come out as
                themselves, at once; ``RetryTask`` when no retry is left.

        Example::

            Task("double", lambda context: context["x"] * 2).run(context={"x": 21})   # 42
        """
        from .alone import run_alone

        return run_alone(self, {} if context is None else context)

    def __reduce__(self) -> tuple[Any, ...]:
        # The definition only: edges would drag the whole graph along, a run its results.
        return _restored, (type(self), (self.name, self.action, self.args, self._kwargs), self._given())

    def _given(self) -> dict[str, Any]:
        return {option: getattr(self, option) for option, default in _DEFAULTS if getattr(self, option) is not default}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r:.200}>"


_DEFAULTS: tuple[tuple[str, Any], ...] = (
    ("retries", _NO_RETRIES),
    ("retry_delay", _RETRY_DELAY_S),
    ("trigger_rule", _ALL_SUCCESS),
    ("retry_backoff", _BACKOFF),
    ("retry_max_delay", _MAX_DELAY_S),
    ("retry_jitter", _JITTER),
    ("retry_on", Exception),
    ("timeout", None),
    ("priority", _PRIORITY),
    ("memory_limit", None),
    ("on_kill", None),
)
#: What ``Task`` takes by name, besides its name, action and arguments.
OPTIONS = tuple(option for option, _ in _DEFAULTS)


def _restored(kind: type[Task], positional: tuple[Any, ...], given: dict[str, Any]) -> Task:
    return kind(*positional, **given)


def _draw_edge(up: Task, down: Task) -> None:
    for end, other in ((up, down), (down, up)):
        if not isinstance(end, Task):
            raise _no_end(end, other)
        if end._last_run is not None and end._last_run.is_active:
            raise DefinitionError(
                f"the graph is frozen while it runs: edge {up.name!r} -> {down.name!r} refused", task=end.name
            )
    if down not in up._downstream:
        up._downstream = _with(up._downstream, down)
        down._upstream = _with(down._upstream, up)


def _no_end(end: object, other: Task) -> DefinitionError:
    hint = ""
    if isinstance(end, signature.FactoryLike):
        hint = f"; call it: {end.__name__}()"
    elif isinstance(end, list | tuple):
        hint = "; call it once for each"
    elif isinstance(end, str):
        hint = "; pass the Task, not its name"
    return DefinitionError(f"an edge leads from task to task, not to {end!r:.200}{hint}; it was drawn at {other!r}")


def _with(edges: Edges, task: Task) -> Edges:
    if type(edges) is dict:
        edges[task] = None
        return edges
    if len(edges) < _FEW_EDGES:
        return (*edges, task)
    return dict.fromkeys((*edges, task))
