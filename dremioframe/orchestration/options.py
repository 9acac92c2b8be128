"""What the options of a task, a pipeline or an executor may be.

What lives here: one function per kind of option; each returns the value in its normal form or raises
:class:`DefinitionError` naming the option, and the task if it is one's. What may not: defaults and meaning; those are
where the option is taken. Those of tasks are called only for values that are not the default, so they may take their
time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from .errors import DefinitionError
from .signature import FactoryLike, TaskLike

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Any, NoReturn

    from .interfaces import Executor
    from .task import Task

EXECUTORS = ("inline", "thread", "process")
SHORTEST_INTERVAL_S = 0.001
LONGEST_INTERVAL_S = 1e9  # about 31 years: adding it to a date stays within the calendar
_INFINITE = float("inf")
_SMALLEST_MEMORY, _LARGEST_MEMORY = 1 << 20, 1 << 62
_LETTERS = "bBkKmMgGtTiI"
_MEMORY_UNITS = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}  # fmt: skip
_LARGEST_COUNT = 1_000_000
_MOST_LOOKED_AT = 10_000
_MOST_COMPARED = 1_000  # each takes microseconds, and `get` of a mapping asks, too


class UnknownOptionError(DefinitionError, TypeError):
    """There is no such option. Also a ``TypeError``, as Python's own would be."""


def unknown(where: str, given: Iterable[str], known: Collection[str], *, task: str | None = None) -> NoReturn:
    """Refuse the options of ``given`` that are not ``known``; ``where`` begins the message."""
    names = [name for name in given if name not in known]
    said = "; ".join(f"unknown option {name!r}{meant(name, known)}" for name in names)
    raise UnknownOptionError(f"{where}: {said}", task=task)


def meant(value: object, *known: Collection[str]) -> str:
    """A hint at the one of ``known`` that looks most like it; empty if none does, or there are too many to look at."""
    if not isinstance(value, str) or sum(map(len, known)) > _MOST_COMPARED:
        return ""
    from difflib import get_close_matches
    from itertools import chain

    names = [*chain(*known)]
    # Closer in letters to retry_on, and hardly ever meant so.
    is_retries = value == "retry" and "retries" in names
    close = ["retries"] if is_retries else get_close_matches(value.lower(), names, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def task_name(name: object) -> str:
    """Any text is a name, the empty one too; a ``str`` subclass (an enum member) becomes plain text."""
    if isinstance(name, str):
        return str.__str__(name)
    raise DefinitionError(f"a task's name must be a string, not {_shown(name)}; write e.g. Task('extract', extract)")


def count(task: str, option: str, value: object) -> int:
    """A whole number from 0 to a million: attempts are numbered in 24 bits on their way to a worker."""
    number = whole(task, option, value)
    if 0 <= number <= _LARGEST_COUNT:
        return number
    return _refuse(task, option, value, f"0 or a positive whole number of at most {_LARGEST_COUNT:,}")


def whole(task: str, option: str, value: object) -> int:
    """A whole number; NumPy's count too, ``True`` does not."""
    number = _index(value)
    return _refuse(task, option, value, "a whole number") if number is None else number


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


def memory_limit(task: str, value: object) -> int | None:
    """Bytes, as a number or as text like ``"512MiB"`` or ``"2 GB"``; None for no limit."""
    if value is None:
        return None
    number = _number(value)
    if isinstance(value, str):
        digits = value.strip().rstrip(_LETTERS)
        unit = value.strip()[len(digits) :].lower()
        if digits.strip().replace(".", "", 1).isdecimal() and unit in _MEMORY_UNITS:
            number = float(digits) * _MEMORY_UNITS[unit]
    if _SMALLEST_MEMORY <= number < _LARGEST_MEMORY:
        return int(number)
    wanted = 'a number of bytes or text like "512MiB" or "2GB", at least 1 MiB, or None'
    return _refuse(task, "memory_limit", value, wanted)


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
        known = [rule.value for rule in TriggerRule]
        raise DefinitionError(
            f"task {task!r}: unknown trigger_rule {_shown(value)}{meant(value, known)}; known are {', '.join(known)}",
            task=task,
        ) from None


def retry_on(task: str, value: Any) -> Any:
    """A class of exceptions, a tuple of those, or a predicate."""
    kinds = value if isinstance(value, tuple) else (value,)
    if all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        return value
    if callable(value) and not isinstance(value, type):
        return value
    return _refuse(task, "retry_on", value, "an exception class, a tuple of them, or a function (error) -> bool")


def at_least_one(option: str, value: object) -> int | None:
    """A whole number of at least 1, NumPy's too, or None."""
    if value is None:
        return None
    number = _index(value)
    if number is not None and number >= 1:
        return number
    raise DefinitionError(f"{option} must be a whole number of at least 1, or None, not {_shown(value)}")


def grace(option: str, value: object) -> float:
    """A finite number of seconds, at least 0, of an executor."""
    number = _number(value)
    if 0 <= number < _INFINITE:
        return number
    raise DefinitionError(f"{option} must be a finite number of seconds, at least 0, not {_shown(value)}")


def share(option: str, value: object) -> float:
    """A number above 0 and up to 1."""
    number = _number(value)
    if 0 < number <= 1:
        return number
    raise DefinitionError(f"{option} must be a number above 0 and up to 1, not {_shown(value)}")


def directory(option: str, value: Any) -> str | None:
    """A directory that can be written to, as text, or None."""
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike):
        raise DefinitionError(f"{option} must be the path of a directory, or None, not {_shown(value)}")
    path: str = os.path.abspath(os.fsdecode(value))
    if not os.path.isdir(path) or not os.access(path, os.W_OK | os.X_OK):
        raise DefinitionError(f"{option} must be a directory that can be written to, not {_shown(value)}")
    return path


def run_timeout(value: object) -> float | None:
    """A finite number of seconds above 0, or None, of a run."""
    number = _number(value)
    if value is None or 0 < number < _INFINITE:
        return None if value is None else number
    raise DefinitionError(f"the run's timeout must be a finite number of seconds above 0, or None, not {_shown(value)}")


def interval(option: str, value: object) -> float:
    """Seconds between two runs of a schedule."""
    number = _number(value)
    if SHORTEST_INTERVAL_S <= number <= LONGEST_INTERVAL_S:
        return number
    raise DefinitionError(f"{option} must be a number of seconds from 0.001 to 1e9, not {_shown(value)}")


def executor(value: Any) -> str | Executor:
    """The name of an executor, or an instance."""
    if isinstance(value, str):
        if value in EXECUTORS:
            return str.__str__(value)
        known = ", ".join(EXECUTORS)
        raise DefinitionError(f"unknown executor {_shown(value)}{meant(value, EXECUTORS)}; there are: {known}")
    if callable(getattr(value, "open", None)) and not isinstance(value, type):
        return value  # type: ignore[no-any-return]  # it quacks
    is_class = isinstance(value, type) and callable(getattr(value, "open", None))
    hint = f"; did you mean {value.__name__}()?" if is_class else ""
    raise DefinitionError(f"executor must be a name ({', '.join(EXECUTORS)}) or an executor, not {_shown(value)}{hint}")


def run_context(value: object) -> dict[str, object]:
    """The run's own values: a mapping with text keys; None for none."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        hint = f"; did you mean run(executor={_shown(value)})?" if isinstance(value, str) else ""
        raise DefinitionError(f"context must be a mapping, not {_shown(value)}{hint}")
    values: dict[Any, object] = dict(value)
    for name in values:
        if not isinstance(name, str):
            raise DefinitionError(f"names of the run's context values must be text, not {_shown(name)}")
    return values


def callback(task: str, option: str, value: Any) -> Any:
    """A callable or None."""
    return value if value is None or callable(value) else _refuse(task, option, value, "a function, or None")


def arguments(task: str, value: object) -> tuple[Any, ...]:
    """Positional arguments, given as tuple or list: a string would otherwise be torn into letters."""
    if not isinstance(value, (tuple, list)):
        _refuse(task, "args", value, "a tuple or list of positional arguments, e.g. args=(path,)")
    _no_tasks(task, value)
    return tuple(value)


def keyword_arguments(task: str, value: Any) -> dict[str, Any] | None:
    """Keyword arguments: a mapping with text keys, or None."""
    if value is None:
        return None
    if not hasattr(type(value), "keys") or not all(isinstance(key, str) for key in value):
        _refuse(task, "kwargs", value, "a mapping from parameter names to values")
    arguments = dict(value)
    _no_tasks(task, arguments.values())
    return arguments or None


def _no_tasks(task: str, values: Iterable[object]) -> None:
    """Refuse tasks and factories among the arguments, also inside lists, tuples and dicts."""
    pending = list(values)
    looked_at = 0
    for value in pending:  # grows while it is walked
        if isinstance(value, (TaskLike, FactoryLike)):
            _refuse_declared(task, value)
        # Bounded: arguments may be millions of rows, and a list may contain itself. Whoever passes a task by mistake
        # does not hide it among so many.
        if looked_at < _MOST_LOOKED_AT and isinstance(value, (list, tuple, dict)):
            inside = list(dict.values(value) if isinstance(value, dict) else value[: _MOST_LOOKED_AT - looked_at])
            looked_at += len(inside) + 1
            pending += inside


def _refuse_declared(task: str, value: TaskLike | FactoryLike) -> NoReturn:
    if isinstance(value, TaskLike):
        raise DefinitionError(
            f"task {task!r} got task {value.name!r} as an argument; draw the edge with set_downstream() "
            f"and read context[{value.name!r}] in the function",
            task=task,
        )
    name = value.__name__
    raise DefinitionError(
        f"task {task!r} got the task factory {name!r} as an argument; pass its plain function, "
        f"{name}.fn, or make a task of it, draw the edge with set_downstream() and read context[{name!r}]",
        task=task,
    )


def _index(value: Any) -> int | None:
    """A whole number as a plain int, None for anything else."""
    if _is_bool(value):
        return None
    try:
        return value.__index__()  # type: ignore[no-any-return]  # asking is finding out
    except (AttributeError, TypeError):
        return None


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
