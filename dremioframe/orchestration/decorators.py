"""``@task``: from a function to a factory of tasks.

What lives here: the decorator and the factory it makes. What may not: what a task is; that is ``task.py``.
"""

from __future__ import annotations

from typing import Generic, ParamSpec, TypeVar, overload

from .context import running_task
from .errors import DefinitionError, NestedRunError
from .task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypedDict, Unpack

    from .interfaces import RetryOn

    class TaskOptions(TypedDict, total=False):
        """Options of ``@task`` and ``with_options``: those of :class:`Task` but its action and arguments."""

        name: str
        retries: int
        retry_delay: float
        trigger_rule: str
        retry_backoff: float
        retry_max_delay: float
        retry_jitter: float
        retry_on: RetryOn
        timeout: float | None
        priority: int
        on_kill: Callable[[], object] | None


P = ParamSpec("P")
R = TypeVar("R")

_NOT_OPTIONS = frozenset({"action", "args", "kwargs"})


class TaskFactory(Generic[P, R]):
    """A function decorated with :func:`task`. Calling it makes a new :class:`Task`; it does not run the function.

    Attributes:
        fn: The plain function, for unit tests and for calling it inside another task.

    Example::

        @task(retries=3)
        def extract(day):
            return [day]

        monday = extract("monday")                                        # a Task named "extract"
        tuesday = extract.with_options(name="extract_tuesday")("tuesday")
        assert extract.fn("monday") == ["monday"]
    """

    # No __slots__: functools.wraps and documentation tools expect to find and set __name__ and __doc__.

    def __init__(self, fn: Callable[P, R], options: TaskOptions) -> None:
        refused = _NOT_OPTIONS.intersection(options)
        if refused:
            raise TypeError(
                f"@task does not take {', '.join(sorted(refused))}; pass arguments when calling the factory"
            )
        given: dict[str, Any] = dict(options)
        name = given.pop("name", None)
        self.fn = fn
        self._named = name is not None
        # Bad options and functions that cannot be tasks are told here, at the declaration.
        self._prototype = Task(_name_of(fn) if name is None else name, fn, **given)
        self._options = given
        self.__wrapped__ = fn
        self.__name__: str = getattr(fn, "__name__", self._prototype.name)
        self.__qualname__: str = getattr(fn, "__qualname__", self.__name__)
        self.__module__: str = getattr(fn, "__module__", None) or __name__
        self.__doc__ = getattr(fn, "__doc__", None)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Task:
        """Make a task that will call the function with these arguments.

        Raises:
            NestedRunError: Called by the code of a running task, where only ``.fn`` makes sense.
            DefinitionError: An argument is a task.

        Example: ``load = load_table("flights", mode="append")``.
        """
        name = self._prototype.name
        caller = running_task.get()
        if caller is not None:
            raise NestedRunError(
                f"task {caller!r} called the task factory {self.__name__!r} while it ran; that would only make another "
                f"task. Call the plain function: {self.__name__}.fn(...)",
                task=caller,
            )
        return Task(name, self.fn, args, kwargs or None, **self._options)

    def with_options(self, **options: Unpack[TaskOptions]) -> TaskFactory[P, R]:
        """A copy of this factory with some options replaced.

        Raises:
            DefinitionError: An option makes no sense.
            TypeError: There is no such option.

        Example: ``slow = extract.with_options(name="slow", timeout=600)``.
        """
        return TaskFactory(self.fn, self._all_options() | options)

    def __reduce__(self) -> tuple[Any, ...]:
        return TaskFactory, (self.fn, self._all_options())

    def __repr__(self) -> str:
        return f"<task factory {self._prototype.name!r:.200}>"

    def _all_options(self) -> TaskOptions:
        options: Any = dict(self._options)
        if self._named:
            options["name"] = self._prototype.name
        return options  # type: ignore[no-any-return]  # what came in as TaskOptions


@overload
def task(fn: Callable[P, R], /) -> TaskFactory[P, R]: ...


@overload
def task(fn: None = None, /, **options: Unpack[TaskOptions]) -> Callable[[Callable[P, R]], TaskFactory[P, R]]: ...


def task(fn: Callable[P, R] | None = None, /, **options: Unpack[TaskOptions]) -> Any:
    """Turn a function into a factory of tasks. Works bare and with options.

    Args:
        fn: The function, when used bare.
        **options: Those of :class:`Task`, and ``name`` (default: the function's own name).

    Returns:
        A :class:`TaskFactory`.

    Raises:
        DefinitionError: The function is ``async`` or a generator function, or an option makes no sense.
        TypeError: There is no such option.

    Example::

        @task(retries=3, timeout=30)
        def extract():
            return [1, 2, 3]

        pipeline.add_task(extract())
    """
    if fn is not None:
        return TaskFactory(fn, options)

    def decorate(fn: Callable[P, R]) -> TaskFactory[P, R]:
        return TaskFactory(fn, options)

    return decorate


def _name_of(fn: object) -> str:
    # A partial has no name of its own.
    for candidate in (fn, getattr(fn, "func", None), type(fn)):
        name = getattr(candidate, "__name__", None)
        if isinstance(name, str):
            return name
    raise DefinitionError(f"@task is for functions, not for {fn!r:.200}")
