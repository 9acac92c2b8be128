"""What the signature of an action says: can it be a task at all, and does it take ``context``?

What lives here: questions about callables, answered without calling them and, for all common kinds, without the
``inspect`` module (its import costs as much as the rest of the package); and the names of what is declared, tasks and
factories, so that modules below them can tell them from actions and values. What may not: opinions on values.
"""

from __future__ import annotations

from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType

from .errors import DefinitionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Mapping
    from types import CodeType
    from typing import Any

# Flags of code objects; inspect has names for them, at the price of its import.
_VAR_POSITIONAL = 0x04
_VAR_KEYWORD = 0x08
_GENERATOR = 0x20
_COROUTINE = 0x80
_ITERABLE_COROUTINE = 0x100
_ASYNC_GENERATOR = 0x200
NOT_PLAIN = _GENERATOR | _COROUTINE | _ITERABLE_COROUTINE | _ASYNC_GENERATOR

_CONTEXT = "context"
_MANY_LAYERS = 100


class TaskLike:
    """What every task is: a declaration, and no value that task code could want."""

    __slots__ = ()

    name: str


class FactoryLike:
    """What every factory of tasks is: callable, and no action."""

    __slots__ = ()

    __name__: str


def check_action(task: str, action: object) -> None:
    """Refuse what cannot run as a task.

    Raises:
        DefinitionError: Not callable, a factory of tasks, a generator function, or ``async def``; found also behind
            ``partial``, bound methods and ``__call__``.
    """
    innermost = action
    while isinstance(innermost, partial):
        innermost = innermost.func
    if isinstance(innermost, FactoryLike):
        made = innermost.__name__
        raise DefinitionError(
            f"task {task!r}: the action is the task factory {made!r}; pass its plain function, {made}.fn, or make the "
            f"task with {made}()",
            task=task,
        )
    if not callable(action):
        raise DefinitionError(f"task {task!r}: action must be callable, not {action!r:.200}", task=task)
    code = getattr(_function_behind(action), "__code__", None)
    flags = getattr(code, "co_flags", 0)
    if not isinstance(flags, int) or not flags & NOT_PLAIN:
        return
    if flags & (_COROUTINE | _ITERABLE_COROUTINE):
        hint = "is an async function; use a plain function, e.g. one that calls asyncio.run()"
    else:
        hint = "is a generator function; return a list instead of yielding"
    raise DefinitionError(f"task {task!r}: the action {hint}", task=task)


def takes_context(action: Callable[..., Any], n_args: int, keywords: Container[str]) -> bool:
    """Whether to pass ``context=``: there is such a parameter, it can be named, and nothing is bound to it yet."""
    if _CONTEXT in keywords:
        return False
    if type(action) is FunctionType and not action.__dict__:
        return _code_takes_context(action.__code__, n_args)
    return _takes_context(action, n_args, 0)


def fits(action: Any, n_args: int, keywords: Collection[str]) -> bool:
    """Whether a call with so many positional arguments and these keywords can work; True where nobody can tell.

    ``context`` counts as given where the engine will give it.
    """
    if type(action) is FunctionType and not keywords:  # the usual call, without further questions
        code = action.__code__
        most = code.co_argcount
        if not code.co_kwonlyargcount and most - len(action.__defaults__ or ()) <= n_args <= most:
            return True
    if takes_context(action, n_args, keywords):
        keywords = {*keywords, _CONTEXT}
    for _ in range(_MANY_LAYERS):
        if isinstance(action, partial):
            n_args += len(action.args)
            keywords = {*keywords, *action.keywords}
            action = action.func
        elif isinstance(action, MethodType):
            n_args += 1
            action = action.__func__
        elif isinstance(action, FunctionType):
            return _function_fits(action, n_args, keywords)
        elif isinstance(action, (type, BuiltinFunctionType)) or not isinstance(type(action).__call__, FunctionType):
            break
        else:
            n_args += 1
            action = type(action).__call__
    return True


def _function_fits(function: FunctionType, n_args: int, keywords: Collection[str]) -> bool:
    code = function.__code__
    n_positional, n_posonly = code.co_argcount, code.co_posonlyargcount
    if n_args > n_positional and not code.co_flags & _VAR_POSITIONAL:
        return False
    names = code.co_varnames[: n_positional + code.co_kwonlyargcount]
    nameable = names[max(n_args, n_posonly) :] if n_args < n_positional else names[n_positional:]
    if not code.co_flags & _VAR_KEYWORD and any(keyword not in nameable for keyword in keywords):
        return False
    if any(keyword in names[n_posonly : min(n_args, n_positional)] for keyword in keywords):
        return False  # given twice
    n_required = n_positional - len(function.__defaults__ or ())
    missing = any(i < n_posonly or name not in keywords for i, name in enumerate(names[n_args:n_required], n_args))
    optional = function.__kwdefaults__ or {}
    return not missing and all(name in keywords or name in optional for name in names[n_positional:])


def misfit(action: Any, args: tuple[object, ...], keywords: Mapping[str, object]) -> str:
    """Why a call with these arguments cannot work, in words; empty if it can after all."""
    import inspect

    given = dict(keywords)
    if takes_context(action, len(args), keywords):
        given[_CONTEXT] = None
    try:
        signature = inspect.signature(action, follow_wrapped=False)
        signature.bind(*args, **given)
    except ValueError:
        return ""
    except TypeError as error:
        return f"{error}; its parameters are {signature}"
    return ""


def _takes_context(action: Any, n_args: int, layer: int) -> bool:
    if layer > _MANY_LAYERS:  # __wrapped__ in a circle
        return False
    if isinstance(action, partial):
        if _CONTEXT in action.keywords:
            return False
        return _takes_context(action.func, n_args + len(action.args), layer + 1)
    if isinstance(action, MethodType):
        return _takes_context(action.__func__, n_args + 1, layer + 1)
    if isinstance(action, FunctionType):
        return _function_takes_context(action, n_args, layer)
    if not isinstance(action, (type, BuiltinFunctionType)) and isinstance(type(action).__call__, FunctionType):
        return _takes_context(type(action).__call__, n_args + 1, layer + 1)
    return _signature_takes_context(action, n_args)


def _function_takes_context(function: FunctionType, n_args: int, layer: int) -> bool:
    attributes = function.__dict__
    if "__signature__" in attributes:
        return _signature_takes_context(function, n_args)
    code = function.__code__
    if _code_takes_context(code, n_args):
        return True
    # A functools.wraps decorator: what it hands through is the wrapped function's to ask for.
    passes_on = code.co_flags & _VAR_KEYWORD and "__wrapped__" in attributes
    return bool(passes_on) and _takes_context(attributes["__wrapped__"], n_args, layer + 1)


def _code_takes_context(code: CodeType, n_args: int) -> bool:
    """Parameters are the first local variables: positional-only, positional, keyword-only, in this order."""
    n_positional = code.co_argcount
    names = code.co_varnames[: n_positional + code.co_kwonlyargcount]
    if _CONTEXT not in names:
        return False
    position = names.index(_CONTEXT)
    if position >= n_positional:
        return True
    return position >= max(n_args, code.co_posonlyargcount)


def _signature_takes_context(action: Any, n_args: int) -> bool:
    """The slow way, for classes, C callables and functions that state a signature of their own."""
    import inspect

    try:
        parameters = inspect.signature(action).parameters
    except (ValueError, TypeError):  # many C callables have none
        return False
    parameter = parameters.get(_CONTEXT)
    if parameter is None:
        return False
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
        return True
    return parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and list(parameters).index(_CONTEXT) >= n_args


def _function_behind(action: Any) -> Any:
    """The function that a call of ``action`` runs: behind partials, methods and ``__call__``."""
    for _ in range(_MANY_LAYERS):
        if isinstance(action, partial):
            action = action.func
        elif isinstance(action, MethodType):
            action = action.__func__
        elif isinstance(action, (FunctionType, BuiltinFunctionType, type)) or not callable(action):
            return action
        else:
            call = type(action).__call__
            if not isinstance(call, FunctionType):
                return action
            action = call
    return action
