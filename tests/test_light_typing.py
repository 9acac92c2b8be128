"""The stand-ins for typing behave as the originals do."""

from __future__ import annotations

import pickle
import typing

import pytest

from dremioframe.orchestration import light_typing
from dremioframe.orchestration.decorators import TaskFactory


class Light(light_typing.NamedTuple):
    """A point."""

    x: int
    y: int = 2

    def sum(self) -> int:
        return self.x + self.y

    @property
    def double(self) -> int:
        return 2 * self.x


class Real(typing.NamedTuple):
    """A point."""

    x: int
    y: int = 2

    def sum(self) -> int:
        return self.x + self.y

    @property
    def double(self) -> int:
        return 2 * self.x


class Below(Light):
    __slots__ = ()

    def sum(self) -> int:
        return -super().sum()


def facts(point: type) -> list[object]:
    made = point(1)
    return [
        made, made.sum(), made.double, made._replace(y=5), made._asdict(), point._fields, point._field_defaults,
        point.__doc__, point.__module__, point.__mro__[1:], set(point.__annotations__), type(point),
        [hasattr(made, name) for name in ("__dict__", "__weakref__")],
    ]  # fmt: skip


def test_a_named_tuple_is_what_typing_makes() -> None:
    assert facts(Light) == facts(Real)
    assert repr(Light(1)) == "Light(x=1, y=2)"
    assert Light.__qualname__ == "Light"
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        Light()


def test_a_named_tuple_pickles_matches_and_has_heirs() -> None:
    assert type(pickle.loads(pickle.dumps(Light(1)))) is Light
    match Light(3, 4):
        case Light(x, y):
            assert (x, y) == (3, 4)
    assert Below(1).sum() == -3


def test_a_named_tuple_may_have_no_fields() -> None:
    class Nothing(light_typing.NamedTuple):
        """Nothing at all."""

    assert Nothing() == ()


def test_a_factory_can_be_subscripted_in_annotations() -> None:
    assert TaskFactory[[int], str].__origin__ is TaskFactory


def test_never() -> None:
    with pytest.raises(AssertionError, match="unreachable, but got: 1"):
        light_typing.assert_never(1)
