"""What the options of a task, a pipeline or an executor may be.

What lives here: one function per kind of option; each returns the value in its normal form or raises
:class:`DefinitionError` naming the option, and the task if it is one's. What may not: defaults and meaning; those are
where the option is taken. Those of tasks are called only for values that are not the default, so they may take their
time.
"""

from __future__ import annotations

from .errors import DefinitionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from .task import Task

_INFINITE = float("inf")


def task_name(name: object) -> str:
    """Any text is a name, the empty one too; a ``str`` subclass (an enum member) becomes plain text."""
    if isinstance(name, str):
        return str.__str__(name)
    raise DefinitionError(f"a task's name must be a string, not {_shown(name)}; write e.g. Task('extract', extract)")


def count(task: str, option: str, value: object) -> int:
    """A whole number of at least 0."""
    number = whole(task, option, value)
    return number if number >= 0 else _refuse(task, option, value, "0 or a positive whole number")


def whole(task: str, option: str, value: object) -> int:
    """A whole number; NumPy's count too, ``True`` does not."""
    try:
        if not _is_bool(value):
            return value.__index__()  # type: ignore[attr-defined, no-any-return]  # asking is finding out
    except (AttributeError, TypeError):
        pass
    return _refuse(task, option, value, "a whole number")


def seconds(task: str, option: str, value: object) -> float:
    """A finite number of seconds, at least 0."""
    number = _number(value)
    return number if 0 <= number < _INFINITE else _refuse(task, option, value, "a finite number of seconds, at least 0")


def time_limit(task: str, option: str, value: object) -> float | None:
    """A finite number of seconds above 0, or None."""
    if value is None:
        return None
    number = _number(value)
    if 0 < number < _INFINITE:
        return number
    return _refuse(task, option, value, "a finite number of seconds above 0, or None for no limit")


def check_delays(task: Task) -> None:
    """Bring the four numbers that make up a retry's delay into normal form, in place."""
    task.retry_delay = seconds(task.name, "retry_delay", task.retry_delay)
    ceiling_s = _number(task.retry_max_delay)
    backoff, jitter = _number(task.retry_backoff), _number(task.retry_jitter)
    if not ceiling_s >= 0:
        _refuse(task.name, "retry_max_delay", task.retry_max_delay, "a number of seconds, at least 0")
    if not 0 < backoff < _INFINITE:
        _refuse(task.name, "retry_backoff", task.retry_backoff, "a finite number above 0; 1.0 keeps the delay fixed")
    if not 0 <= jitter < _INFINITE:
        _refuse(task.name, "retry_jitter", task.retry_jitter, "a finite share, at least 0")
    task.retry_max_delay, task.retry_backoff, task.retry_jitter = ceiling_s, backoff, jitter


def trigger_rule(task: str, value: Any) -> str:
    """One of the known trigger rules."""
    from .dag.trigger_rules import TriggerRule

    try:
        return TriggerRule(value)
    except ValueError:
        known = ", ".join(rule.value for rule in TriggerRule)
        raise DefinitionError(f"task {task!r}: unknown trigger_rule {value!r}; known are {known}", task=task) from None


def retry_on(task: str, value: Any) -> Any:
    """A class of exceptions, a tuple of those, or a predicate."""
    kinds = value if isinstance(value, tuple) else (value,)
    if all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        return value
    if callable(value) and not isinstance(value, type):
        return value
    return _refuse(task, "retry_on", value, "an exception class, a tuple of them, or a function (error) -> bool")


def at_least_one(option: str, value: object) -> int | None:
    """A whole number of at least 1, or None."""
    if value is None or (type(value) is int and value >= 1):
        return value
    raise DefinitionError(f"{option} must be a whole number of at least 1, or None, not {_shown(value)}")


def grace(option: str, value: object) -> float:
    """A finite number of seconds, at least 0, of an executor."""
    number = _number(value)
    if 0 <= number < _INFINITE:
        return number
    raise DefinitionError(f"{option} must be a finite number of seconds, at least 0, not {_shown(value)}")


def run_timeout(value: object) -> float | None:
    """A finite number of seconds above 0, or None, of a run."""
    number = _number(value)
    if value is None or 0 < number < _INFINITE:
        return None if value is None else number
    raise DefinitionError(f"the run's timeout must be a finite number of seconds above 0, or None, not {_shown(value)}")


def callback(task: str, option: str, value: Any) -> Any:
    """A callable or None."""
    return value if value is None or callable(value) else _refuse(task, option, value, "a function, or None")


def arguments(task: str, value: object, task_type: type) -> tuple[Any, ...]:
    """Positional arguments, given as tuple or list: a string would otherwise be torn into letters."""
    if not isinstance(value, (tuple, list)):
        _refuse(task, "args", value, "a tuple or list of positional arguments, e.g. args=(path,)")
    _no_tasks(task, value, task_type)
    return tuple(value)


def keyword_arguments(task: str, value: Any, task_type: type) -> dict[str, Any] | None:
    """Keyword arguments: a mapping with text keys, or None."""
    if value is None:
        return None
    if not hasattr(type(value), "keys") or not all(isinstance(key, str) for key in value):
        _refuse(task, "kwargs", value, "a mapping from parameter names to values")
    arguments = dict(value)
    _no_tasks(task, arguments.values(), task_type)
    return arguments or None


def _no_tasks(task: str, values: Any, task_type: type) -> None:
    for value in values:
        if isinstance(value, task_type):
            other = getattr(value, "name", "?")
            raise DefinitionError(
                f"task {task!r} got task {other!r} as an argument; draw the edge with set_downstream() and read "
                f"context[{other!r}] in the function",
                task=task,
            )


def _number(value: object) -> float:
    """NaN for everything that is no number: NaN fails every comparison above."""
    if _is_bool(value) or isinstance(value, (str, bytes)) or not hasattr(type(value), "__float__"):
        return float("nan")
    try:
        return float(value)  # type: ignore[arg-type]  # checked: it has __float__
    except (OverflowError, ValueError, TypeError):  # 10**400, a signalling NaN, an array of many
        return float("nan")


def _is_bool(value: object) -> bool:
    return isinstance(value, bool) or type(value).__name__ in {"bool_", "bool"}  # NumPy's are no bool


def _refuse(task: str, option: str, value: object, wanted: str) -> NoReturn:
    raise DefinitionError(f"task {task!r}: {option} must be {wanted}, not {_shown(value)}", task=task)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}... ({type(value).__name__})"
