"""A class as two halves: an empty one that is made first, and the state it is given then.

The halves are there because a class and its methods refer to each other: only what is made first can be referred to.
cloudpickle makes the same two, by a call of the metaclass with next to no namespace and by ``setattr``. What differs
between such a class and one whose body was run is put right here:

* names that only have an effect in the namespace (``__slots__``, ``__qualname__``), and names that ``setattr`` would
  hand to a descriptor of the metaclass (``__class__``, ``__name__``, the metaclass's own properties);
* metaclasses that let nobody set attributes, and hooks that insist on keywords or attributes the empty class lacks;
* what ``__init__`` of an Enum gave its members;
* what a class that came in an earlier run still has, and the original has no more.

Whatever works in cloudpickle's way is done in cloudpickle's way. What lives here: that. What may not: functions, tokens
and the choice of what goes by value (:mod:`.by_value`, which alone imports this: it needs cloudpickle).
"""

from __future__ import annotations

from abc import ABCMeta
from contextlib import suppress
from enum import Enum, member
from types import FunctionType, new_class, resolve_bases

from . import initial, versions
from .as_found import AsFound
from .diagnosis import DecodeError, describe
from .guard import must_pass
from .identity import ByIdentity
from .importable import HEAP_TYPE_FLAG

with AsFound():  # a worker's first class may come after a task that has replaced what this import needs
    from cloudpickle.cloudpickle import _class_getstate, _dynamic_class_reduce, _get_bases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    #: Attributes, then what the properties and the members that exist already are to be completed with.
    State = tuple[dict[str, Any], dict[str, tuple[Any, ...]], dict[str, dict[str, Any]]]

#: What type's own descriptors put into the class's dictionary again.
_SETTABLE = frozenset({"__annotate__", "__annotations__", "__doc__", "__module__", "__type_params__"})
#: What members of an Enum may be beside: with a ``__new__`` of the Enum's own their value may be another.
_DATA = (bytes, float, int, str)
#: What is not simply set.
_LAST = ("__firstlineno__", "_abc_impl")

#: Of a class that came: the names it had before it was given a state for the first time.
_made = ByIdentity()


def reduce(cls: type) -> tuple[Callable[..., type], tuple[Any, ...], Callable[[type, State], None], State]:
    """How to make the empty class, with which arguments; how to give it its state, and which."""
    if issubclass(cls, Enum):
        return _reduce_enum(cls)
    content = cls.__dict__
    attributes, _ = _class_getstate(cls)
    namespace: dict[str, Any] = {"__qualname__": cls.__qualname__}
    namespace |= {name: content[name] for name in ("__module__", "__dict__") if _belongs_to_body(content.get(name))}
    properties: dict[str, tuple[Any, ...]] = {}
    for name in [name for name in attributes if _needs_namespace(cls, name)]:
        value = attributes.pop(name)
        if type(value) is property:  # empty at first: its functions may refer to the class
            properties[name] = value.fget, value.fset, value.fdel, value.__doc__
        else:
            namespace[name] = value
    # Set afterwards, slots have no effect any more: instances would get a __dict__, which the original's have no place
    # for. (A tuple can have no slots; naming them upsets typing.NamedTuple.)
    if "__slots__" in content and not issubclass(cls, tuple):
        namespace["__slots__"] = content["__slots__"]
    args = type(cls), cls.__name__, _get_bases(cls), namespace, list(properties), cls.__base__
    return make_class, args, set_state, (attributes, properties, {})


def _belongs_to_body(value: object) -> bool:
    return isinstance(value, str | property)


def _needs_namespace(cls: type, name: str) -> bool:
    """Whether ``setattr`` would not put this attribute into the class's dictionary."""
    if name == "__abstractmethods__":
        return not isinstance(cls.__dict__[name], frozenset)
    if name in _SETTABLE:
        return False
    for meta in _kinds(cls):
        if name in meta.__dict__:
            kind = type(meta.__dict__[name])
            return hasattr(kind, "__set__") or hasattr(kind, "__delete__")
    return False


def _kinds(cls: type) -> tuple[type, ...]:
    """Its metaclass and the classes that this inherits from."""
    meta: type = type(cls)
    return meta.__mro__


def _reduce_enum(cls: type[Enum]) -> tuple[Callable[..., type], tuple[Any, ...], Callable[[type, State], None], State]:
    make, (bases, name, qualname, _, module, *_), (attributes, _), *_ = _dynamic_class_reduce(cls)
    values: dict[str, Any] = {}
    members: dict[str, dict[str, Any]] = {}
    for key, one in cls.__members__.items():  # with aliases, which cloudpickle would set as attributes
        attributes.pop(key, None)
        values[key] = _value_to_make(one)
        if key == one.name:
            members[key] = {name: value for name, value in vars(one).items() if name != "__objclass__"}
    return make_enum, (make, bases, name, qualname, values, module), set_state, (attributes, {}, members)


def _value_to_make(one: Enum) -> Any:
    """What the class makes this member from as long as it lacks a ``__new__`` of its own."""
    data: Any = type(one)._member_type_  # type: ignore[attr-defined]  # EnumType's, without a stub
    if data in _DATA and (content := data.__getnewargs__(one))[0] != one.value:
        return content
    return member(one.value) if hasattr(type(one.value), "__get__") else one.value  # or it were taken for a method


# --- called by pickles ------------------------------------------------------------------------------------------------


def make_class(
    meta: type, name: str, bases: tuple[Any, ...], namespace: dict[str, Any], properties: list[str], base: type
) -> type:
    """A class with nothing but what has to be there from the start."""
    namespace |= {name: property() for name in properties}
    try:
        return new_class(name, bases, {"metaclass": meta}, lambda body: body.update(namespace))
    except BaseException as error:  # hooks of the user's, to which the class looks unfinished
        if must_pass(error):
            raise
        try:
            return _make_unheard(meta, name, resolve_bases(bases), namespace, base)
        except BaseException as again:
            if must_pass(again):
                raise
            qualified = f"{namespace.get('__module__')}.{namespace['__qualname__']}"
            reason = f"the class {qualified} cannot be made before its attributes are known ({describe(error)}); "
            raise DecodeError(f"{reason}put it into a module that workers can import") from error


def make_enum(
    make: Callable[..., type],
    bases: tuple[type, ...],
    name: str,
    qualname: str,
    values: dict[str, Any],
    module: str,
) -> type:
    """As cloudpickle makes it. By a name of ours, which is looked up before any of cloudpickle's is: see the import."""
    return make(bases, name, qualname, values, module, None, None)


def _make_unheard(meta: type, name: str, bases: tuple[type, ...], namespace: dict[str, Any], base: type) -> type:
    """The class without ``__new__`` and ``__init__`` of its metaclass and ``__init_subclass__`` of its bases.

    What these did to the original is in its dictionary, and that is in the state.

    Raises:
        TypeError: Python lets nothing take the place of the bases while the class is made.
    """
    if not any(one.__flags__ & HEAP_TYPE_FLAG for one in bases):  # nothing there that could insist on anything
        return _bare(meta, name, bases, namespace)
    made = _bare(meta, name, (_stand_in(base),), namespace)
    type.__setattr__(made, "__bases__", bases)
    return made


def _stand_in(base: type) -> type:
    """A class whose instances have the same layout, for that is all Python asks when bases are replaced."""
    while base.__base__ and base.__flags__ & HEAP_TYPE_FLAG and _layout(base) == _layout(base.__base__):
        base = base.__base__
    if not base.__flags__ & HEAP_TYPE_FLAG or base.__base__ is None:
        return type(base.__name__, (base,), {"__slots__": ()})
    slots = {"__slots__": base.__dict__["__slots__"]} if "__slots__" in base.__dict__ else {}
    return _bare(type(base.__base__), base.__name__, (base.__base__,), slots)


def _layout(kind: type) -> tuple[int, ...]:
    return kind.__basicsize__, kind.__itemsize__, kind.__dictoffset__, kind.__weakrefoffset__


def _bare(meta: type, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
    maker: Any = ABCMeta if issubclass(meta, ABCMeta) else type
    return maker.__new__(meta, name, bases, namespace)  # type: ignore[no-any-return]


def set_state(cls: type, state: State) -> None:
    """State setter of a class."""
    attributes, properties, members = state
    for name in _outdated(cls, attributes):
        _delete(cls, name)
    for name, value in attributes.items():
        if name not in _LAST and not initial.stays(cls, name, value):
            _set(cls, name, value)
    if "__firstlineno__" in attributes:  # Python 3.13's; setting __module__ deletes it
        _set(cls, "__firstlineno__", attributes["__firstlineno__"])
    for registered in attributes.get("_abc_impl", ()):
        cls.register(registered)  # type: ignore[attr-defined]  # it is an ABC
    for name, parts in properties.items():
        property.__init__(cls.__dict__[name], *parts)
    for name, content in members.items():
        _complete(cls.__members__[name], content)  # type: ignore[attr-defined]  # it is an Enum
    versions.note(cls)


def _outdated(cls: type, attributes: dict[str, Any]) -> list[str]:
    """What the class has and the original has no more, or never had, if this is not the first state of the class."""
    made: frozenset[str] | None = _made.get(cls)
    if made is None:
        _made.put(cls, frozenset(cls.__dict__))
        return []
    return [
        name for name in cls.__dict__ if name not in attributes and name not in made and not initial.has_set(cls, name)
    ]


def _delete(cls: type, name: str) -> None:
    try:
        delattr(cls, name)
    except BaseException as error:
        if must_pass(error):
            raise
        with suppress(AttributeError):
            type.__delattr__(cls, name)  # as with ``_set``


def _complete(one: Enum, content: dict[str, Any]) -> None:
    """Give a member what its class's ``__new__`` and ``__init__``, which were not there yet, gave the original."""
    vars(one).update(content)
    with suppress(TypeError):  # a value that cannot be hashed is in no table at home either
        type(one)._value2member_map_.setdefault(one.value, one)


def _set(cls: type, name: str, value: object) -> None:
    try:
        setattr(cls, name, value)
    except BaseException as error:
        if must_pass(error):
            raise
        # A metaclass that lets nobody set attributes did not mean the class's own body.
        setters = (meta.__dict__.get("__setattr__") for meta in _kinds(cls))
        next(setter for setter in setters if setter and type(setter) is not FunctionType)(cls, name, value)
