"""Types that pickle badly, or not at all, although a worker has all it takes to rebuild them.

What lives here: one reducer per such type, found by the name of the module that the type says it is from, so that no
library is imported to look for objects nobody has. What may not: classes and functions (:mod:`.references`).
"""

from __future__ import annotations

import sys
from _pickle import PickleBuffer  # see codec
from types import FunctionType, MethodType, ModuleType

from ..errors import OrchestrationError
from . import importable, rebuild
from .importable import HEAP_TYPE_FLAG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Share of its buffers that an Arrow array may leave unused before it is copied to a compact one.
_WASTE_FACTOR = 2
_WASTE_FLOOR_BYTES = 4096


def reduce(obj: Any, kind: type) -> Any:
    """The reduced form of ``obj``, or NotImplemented where pickle's own way is the right one."""
    reducer = _REDUCERS.get(kind.__module__)
    if reducer is not None:
        return reducer(obj, kind)
    if issubclass(kind, BaseException):
        return _reduce_exception(obj, kind)
    return (module_by_name(obj) or NotImplemented) if issubclass(kind, ModuleType) else NotImplemented


# --- exceptions -------------------------------------------------------------------------------------------------------


def _reduce_exception(error: BaseException, kind: type[BaseException]) -> Any:
    if isinstance(error, OrchestrationError):
        # Its own way is made for a plain pickler. Here code goes as this pickler has it, and what is shared stays so.
        if kind.__reduce__ is not OrchestrationError.__reduce__:
            return NotImplemented
        return error._reduced(error.__cause__)  # noqa: SLF001 - its own way, with another cause
    # Pickle rebuilds an exception by cls(*args), where args is what reached BaseException. With an __init__ like
    # (self, code, text) that passes on f"{code}: {text}" that call fails, in whoever reads it: well-known pools have
    # hung on it. A frozen dataclass refuses the state instead. Neither happens if __init__ is left out.
    if type(kind.__init__) is not FunctionType or not _is_pickled_by_default(kind):
        return NotImplemented
    return exception_without_init, (kind, error.args, error.__dict__)


def _is_pickled_by_default(kind: type[BaseException]) -> bool:
    compiled = next(base for base in kind.__mro__ if not base.__flags__ & HEAP_TYPE_FLAG)
    return (
        compiled.__basicsize__ == BaseException.__basicsize__  # no fields that only a compiled __init__ can fill
        and type(kind.__new__) is not FunctionType
        and kind.__reduce__ is BaseException.__reduce__
        and kind.__reduce_ex__ is BaseException.__reduce_ex__
        and kind.__setstate__ is BaseException.__setstate__
    )


def exception_without_init(
    kind: type[BaseException], args: tuple[object, ...], state: dict[str, object]
) -> BaseException:
    """An exception with these attributes, made without its class's ``__init__`` and ``__setattr__``."""
    error = kind.__new__(kind, *args)
    object.__setattr__(error, "args", args)
    error.__dict__.update(state)
    return error


# --- numpy ------------------------------------------------------------------------------------------------------------


class _WritableAlias:
    """The memory of a read-only array, described to NumPy as writable. Nobody writes to it: it is only read from."""

    def __init__(self, array: Any) -> None:
        self._array = array  # keeps the memory alive
        address = array.__array_interface__["data"][0]
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (array.nbytes,), "data": (address, False)}


def _reduce_numpy(obj: Any, kind: type) -> Any:
    # Consumers get arrays they may write to. Pickle would remember that the producer's was read-only (a view of a
    # pandas column is), although the consumer's lies in memory of its own.
    if kind.__name__ != "ndarray" or obj.flags.writeable:
        return NotImplemented
    reduced = obj.__reduce_ex__(5)
    if type(reduced[1][0]) is not PickleBuffer:
        return NotImplemented  # copied into the stream; comes out writable anyway
    alias = sys.modules["numpy"].asarray(_WritableAlias(obj))
    return reduced[0], (PickleBuffer(alias), *reduced[1][1:])


# --- arrow, polars ----------------------------------------------------------------------------------------------------


def _reduce_arrow(obj: Any, _kind: type) -> Any:
    # A slice pickles with all the buffers it is a slice of: a month out of a year would ship the year.
    arrow = sys.modules["pyarrow"]
    if not isinstance(obj, arrow.Array):
        return NotImplemented
    if obj.get_total_buffer_size() <= _WASTE_FACTOR * obj.nbytes + _WASTE_FLOOR_BYTES:
        return NotImplemented
    return arrow.concat_arrays([obj]).__reduce__()


def _reduce_polars(obj: Any, kind: type) -> Any:
    polars = sys.modules["polars"]
    if kind is polars.Series:
        return polars_series, (obj.to_frame(), obj.name)
    if kind is not polars.DataFrame or not obj.width:
        return NotImplemented
    try:
        return polars_frame, (_arrow_table(obj, polars.CompatLevel),)
    except Exception:  # noqa: BLE001 - no pyarrow, or a type that Arrow does not know: Polars' own, slower way
        return NotImplemented


def _arrow_table(frame: Any, levels: Any) -> Any:
    # The newest level shares Polars' memory. Its strings are views, and a slice of views drags along the whole heap
    # that they point into; the oldest level writes the strings of the slice one after the other.
    table = frame.to_arrow(compat_level=levels.newest())
    if table.get_total_buffer_size() > _WASTE_FACTOR * frame.estimated_size() + _WASTE_FLOOR_BYTES:
        table = frame.to_arrow(compat_level=levels.oldest())
    return table


def polars_frame(table: Any) -> Any:
    """A Polars frame over the memory of an Arrow table."""
    import polars as pl

    return pl.from_arrow(table)


def polars_series(frame: Any, name: str) -> Any:
    """The only column of a frame."""
    return frame.to_series().alias(name)


# --- loggers ----------------------------------------------------------------------------------------------------------


def _reduce_loguru(obj: Any, kind: type) -> Any:
    # What a logger writes to (files, threads, locks) belongs to its process; what the user bound to it travels.
    return (loguru_logger, obj._options) if kind.__name__ == "Logger" else NotImplemented  # noqa: SLF001 - has no other


def loguru_logger(*options: object) -> Any:
    """The loguru logger of this process, with what was bound to the original."""
    from loguru import logger

    own: Any = logger
    return type(own)(own._core, *options)  # noqa: SLF001 - as above


def _reduce_logging(obj: Any, kind: type) -> Any:
    # Logger pickles by name, but refuses if it was made without getLogger.
    return (logging_logger, (obj.name,)) if kind.__name__ == "Logger" else NotImplemented


def logging_logger(name: str) -> Any:
    """The logger of that name in this process."""
    import logging

    return logging.getLogger(name)


# --- the interpreter's own --------------------------------------------------------------------------------------------


def module_by_name(module: ModuleType) -> Any:
    """The reduced form of a module that a worker has or can import, or None.

    Also one of a class of its own, as lazy packages are (ours is): pickle knows no module, cloudpickle only plain ones.
    """
    name = module.__name__
    return (rebuild.module, (name,)) if name == "__main__" or importable.is_importable(name) else None


def _reduce_view(view: memoryview) -> Any:
    # cloudpickle makes bytes of it, which have other items.
    if view.format not in _FORMATS or (not view.nbytes and view.ndim != 1):
        raise TypeError(f"cannot pickle a memoryview of format {view.format!r} and shape {view.shape}")
    content = PickleBuffer(view) if view.c_contiguous else bytearray(view.tobytes())
    return memory_view, (content, view.format, view.shape)


#: What ``memoryview.cast`` can make of bytes.
_FORMATS = frozenset("cbB?hHiIlLqQnNfdP")


def memory_view(content: Any, format: str, shape: tuple[int, ...]) -> memoryview:  # noqa: A002 - as memoryview has it
    """A view of memory of one's own."""
    view = memoryview(content).cast("B")
    return view.cast(format, shape) if view.nbytes else memoryview(bytearray(8)).cast(format)[:0]  # type: ignore[call-overload, no-any-return]


def _reduce_builtin(obj: Any, kind: type) -> Any:
    if kind is ModuleType:
        return module_by_name(obj) or NotImplemented
    if kind is memoryview:
        return _reduce_view(obj)
    # Pickle names a bound method by its function's name, under which a decorated or private one is not found.
    if kind is not MethodType or getattr(obj.__self__, getattr(obj.__func__, "__name__", ""), None) == obj:
        return NotImplemented
    return MethodType, (obj.__func__, obj.__self__)


def _reduce_io(obj: Any, kind: type) -> Any:
    # cloudpickle would send a text file's whole contents. The standard streams are the worker's own.
    for name in ("stdout", "stderr"):
        if obj is getattr(sys, name):
            return standard_stream, (name,)
    if kind.__name__ == "TextIOWrapper":
        raise TypeError("cannot pickle an open file")
    return NotImplemented


def standard_stream(name: str) -> Any:
    """``sys.stdout`` or ``sys.stderr`` of this process."""
    return getattr(sys, name)


def _reduce_functools(obj: Any, kind: type) -> Any:
    # A cached function pickles as a name, which __main__ of a worker does not have. The cache itself stays at home.
    if kind.__name__ == "cached_property":
        return kind, (obj.func,), {"attrname": obj.attrname}  # its lock (before 3.12) stays at home
    if kind.__name__ != "_lru_cache_wrapper":
        return NotImplemented
    name = importable.named(obj)
    if name is not None:
        return (importable.find, name) if name[2] else NotImplemented
    return cached_function, (obj.__wrapped__, obj.cache_parameters())


def cached_function(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """``function`` behind an empty cache."""
    import functools

    return functools.lru_cache(**parameters)(function)


def _reduce_typing(obj: Any, kind: type) -> Any:
    # These pickle as names only, and stand in annotations, which travel with a function. cloudpickle knows TypeVar.
    name = kind.__name__
    if name not in {"ParamSpec", "TypeVarTuple", "TypeAliasType"} or importable.is_importable(obj.__module__):
        return NotImplemented
    return kind, (obj.__name__, obj.__value__) if name == "TypeAliasType" else (obj.__name__,)


def _reduce_weakref(obj: Any, kind: type) -> Any:
    # Caches, functools.singledispatch's among them. What nobody else keeps there is gone at once, as is right.
    return (kind, (dict(obj),)) if kind.__name__ in {"WeakKeyDictionary", "WeakValueDictionary"} else NotImplemented


def _reduce_dataclasses(obj: Any, _kind: type) -> Any:
    # Sentinels of a dataclass's fields are compared by identity; pickle would make new ones.
    for name in ("MISSING", "KW_ONLY", "_HAS_DEFAULT_FACTORY"):
        if obj is getattr(sys.modules["dataclasses"], name):
            return name  # a global of that name
    return NotImplemented


_REDUCERS: dict[str, Callable[[Any, type], Any]] = {
    "_io": _reduce_io,
    "builtins": _reduce_builtin,
    "dataclasses": _reduce_dataclasses,
    "functools": _reduce_functools,
    "logging": _reduce_logging,
    "loguru._logger": _reduce_loguru,
    "numpy": _reduce_numpy,
    "polars.dataframe.frame": _reduce_polars,
    "polars.series.series": _reduce_polars,
    "pyarrow.lib": _reduce_arrow,
    "typing": _reduce_typing,
    "weakref": _reduce_weakref,
}
