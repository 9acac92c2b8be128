"""The mapping a task sees as ``context``.

What lives here: :class:`Context`, where its values come from (:class:`ContextSource`), and which task runs right now.
What may not: how values travel. A context fetches nothing before it is asked: a task that reads one of a thousand
upstream values pays for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple, Protocol

    from .errors import OrchestrationError
else:
    from .light_typing import NamedTuple, Protocol

_SUCCESS = "SUCCESS"

#: Name of the task whose code runs in this thread (and, in a worker, in this process), or None.
running_task: ContextVar[str | None] = ContextVar("dremioframe_running_task", default=None)


class ContextSource(Protocol):
    """Where a context gets its values. All answers are as of the attempt's dispatch."""

    def run_names(self) -> tuple[str, ...]:
        """Names of the run's own values."""

    def value(self, name: str) -> object:
        """A run value, or the return value of an upstream.

        Raises:
            KeyError: There is none; the text says why.
            PayloadError: It is there and cannot be unpickled.
        """

    def upstream(self) -> Mapping[str, str]:
        """State of every upstream by name, direct ones first."""

    def errors(self) -> Mapping[str, OrchestrationError]:
        """What failed upstream, by task name."""


class Context(Mapping[str, object]):
    """Read-only mapping from name to value: the run's own values and the return values of all upstream tasks.

    A value is fetched and unpickled at its first access and kept for the rest of the attempt. What an attempt sees is
    fixed when it is dispatched. With the process executor each attempt has its own copy and may write to it.

    Attributes:
        run_id: Unique text of the run.
        pipeline_name: Name of the pipeline.
        task_name: Name of the task that runs.
        attempt: Number of this attempt; 1 is the first.

    Example::

        @task
        def report(context=None):
            rows = context["extract"]            # KeyError that says why, if extract has no value
            extra = context.get("enrich", [])    # default instead
    """

    __slots__ = ("_source", "_values", "attempt", "pipeline_name", "run_id", "task_name")

    def __init__(self, source: ContextSource, *, run_id: str, pipeline_name: str, task_name: str, attempt: int) -> None:
        self._source = source
        self._values: dict[str, object] = {}
        self.run_id = run_id
        self.pipeline_name = pipeline_name
        self.task_name = task_name
        self.attempt = attempt

    @classmethod
    def local(cls, values: Mapping[str, object], *, task_name: str, attempt: int = 1) -> Context:
        """A context over plain values, for one task run alone (``Task.run``)."""
        return cls(_PlainSource(dict(values)), run_id="", pipeline_name="", task_name=task_name, attempt=attempt)

    def __getitem__(self, name: str) -> object:
        if name in self._values:
            return self._values[name]
        # setdefault: threads of one task that read at once get the same object.
        return self._values.setdefault(name, self._source.value(name))

    def __contains__(self, name: object) -> bool:
        # Mapping's own version would fetch the value.
        if not isinstance(name, str):
            return False
        return name in self._values or name in self._source.run_names() or self.upstream.get(name) == _SUCCESS

    def __iter__(self) -> Iterator[str]:
        yield from self._source.run_names()
        yield from (name for name, state in self._source.upstream().items() if state == _SUCCESS)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<Context of {self.task_name!r}, attempt {self.attempt}: {', '.join(map(repr, self))}>"

    @property
    def upstream(self) -> Mapping[str, str]:
        """State of every upstream task (direct or not) by name, e.g. ``{"extract": "SUCCESS"}``."""
        return self._source.upstream()

    @property
    def errors(self) -> Mapping[str, OrchestrationError]:
        """What failed upstream, by task name; for alert tasks (``trigger_rule="one_failed"``)."""
        return self._source.errors()


class _PlainSource(NamedTuple):
    """Values without a run around them."""

    values: dict[str, object]

    def run_names(self) -> tuple[str, ...]:
        return tuple(self.values)

    def value(self, name: str) -> object:
        if name in self.values:
            return self.values[name]
        raise KeyError(f"context has no value {name!r}: the task runs alone, with what was passed to run(context=...)")

    def upstream(self) -> Mapping[str, str]:
        return {}

    def errors(self) -> Mapping[str, OrchestrationError]:
        return {}
