"""``@task``: from a function to a factory of tasks.

What lives here: the decorator and the factory it makes. What may not: what a task is; that is ``task.py``.
"""

from __future__ import annotations

from . import options as checks
from .context import running_task
from .errors import DefinitionError, NestedRunError
from .signature import FactoryLike, fits, misfit
from .task import OPTIONS, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Generic, NoReturn, ParamSpec, TypedDict, TypeVar, Unpack, overload

    from .interfaces import RetryOn

    P = ParamSpec("P")
    R = TypeVar("R")

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
        memory_limit: str | float | None
        on_kill: Callable[[], object] | None
else:
    from .light_typing import Generic

    P, R = "P", "R"  # at run time a parameter is no more than its name

_NOT_OPTIONS = frozenset({"action", "args", "kwargs"})
_KNOWN = frozenset({"name", *OPTIONS})


class TaskFactory(FactoryLike, Generic[P, R]):
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
        _check_names(options)
        given: dict[str, Any] = dict(options)
        name = given.pop("name", None)
        self.fn = fn
        self._named = name is not None
        # Bad options and functions that cannot be tasks are told here, at the declaration.
        self._prototype = Task(_name_of(fn) if name is None else name, fn, **given)
        self._options = given
        self._fits_bare = fits(fn, 0, ())
        self.__wrapped__ = fn
        self.__name__: str = getattr(fn, "__name__", self._prototype.name)
        self.__qualname__: str = getattr(fn, "__qualname__", self.__name__)
        self.__module__: str = getattr(fn, "__module__", None) or __name__
        self.__doc__ = getattr(fn, "__doc__", None)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Task:
        """Make a task that will call the function with these arguments.

        Raises:
            NestedRunError: Called by the code of a running task, where only ``.fn`` makes sense.
            DefinitionError: An argument is a task or a factory, or the function does not take these arguments.

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
        if not (args or kwargs):
            if self._fits_bare:
                return Task(name, self.fn, **self._options)
        elif fits(self.fn, len(args), kwargs):
            return Task(name, self.fn, args, kwargs or None, **self._options)
        why = misfit(self.fn, args, kwargs)
        if why:
            raise DefinitionError(f"task {name!r}: {self.__name__}() cannot be called like this: {why}", task=name)
        return Task(name, self.fn, args, kwargs or None, **self._options)

    if not TYPE_CHECKING:  # a type checker knows better than to look for these

        def __getattr__(self, name: str) -> NoReturn:
            if hasattr(Task, name) and not name.startswith("_"):
                self._is_no_task()
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

        def __rshift__(self, other: object) -> NoReturn:
            self._is_no_task()

        __lshift__ = __rrshift__ = __rlshift__ = __rshift__

    def _is_no_task(self) -> NoReturn:
        name = self.__dict__.get("__name__", "it")
        raise AttributeError(f"`{name}` is a task factory; call it: {name}()")

    def with_options(self, **options: Unpack[TaskOptions]) -> TaskFactory[P, R]:
        """A copy of this factory with some options replaced.

        Raises:
            DefinitionError: An option makes no sense, or does not exist (then it is also a ``TypeError``).

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


if TYPE_CHECKING:

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
        DefinitionError: The function is ``async`` or a generator function, an option makes no sense, or does not
            exist (then it is also a ``TypeError``).

    Example::

        @task(retries=3, timeout=30)
        def extract():
            return [1, 2, 3]

        pipeline.add_task(extract())
    """
    if fn is not None:
        return TaskFactory(fn, options)
    _check_names(options)

    def decorate(fn: Callable[P, R]) -> TaskFactory[P, R]:
        return TaskFactory(fn, options)

    return decorate


def _check_names(options: TaskOptions) -> None:
    refused = _NOT_OPTIONS.intersection(options)
    if refused:
        raise checks.UnknownOptionError(
            f"@task does not take {', '.join(sorted(refused))}; pass arguments when calling the factory"
        )
    if not options.keys() <= _KNOWN:
        checks.unknown("@task", options, _KNOWN)


def _name_of(fn: object) -> str:
    # A partial has no name of its own.
    for candidate in (fn, getattr(fn, "func", None), type(fn)):
        name = getattr(candidate, "__name__", None)
        if isinstance(name, str):
            return name
    raise DefinitionError(f"@task is for functions, not for {fn!r:.200}")
