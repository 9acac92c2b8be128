"""Modules and memoryviews: pickle knows neither, cloudpickle only some."""

from __future__ import annotations

import array
import colorsys
import mmap
import types
from typing import Any

import numpy as np
import pytest
from travels import both_ways, through_bytes

from dremioframe import orchestration
from dremioframe.orchestration.payload import codec


class LazyModule(types.ModuleType):
    """As packages have it that import their parts on demand."""


def test_modules_go_by_name_whatever_their_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colorsys, "__class__", LazyModule)
    assert through_bytes([colorsys, mmap, orchestration]) == [colorsys, mmap, orchestration]


VIEWS = [
    memoryview(b"abc"),
    memoryview(bytearray(b"abc"))[::-1],
    memoryview(array.array("d", [1.5, 2.5])),
    memoryview(array.array("d")),
    memoryview(b""),
    memoryview(np.arange(6, dtype="i4").reshape(2, 3)),
    memoryview(np.arange(6, dtype="i4").reshape(2, 3).T),
    memoryview(np.arange(50_000, dtype="u2")),
    memoryview(np.arange(50_000, dtype="i4").astype("?"))[::3],
]


@both_ways
@pytest.mark.parametrize("view", VIEWS, ids=lambda view: f"{view.format}{view.shape}")
def test_p9_memoryviews_keep_format_and_shape(view: memoryview, travel: Any) -> None:
    copy = travel({"view": view})["view"]
    assert type(copy) is memoryview
    assert (copy.format, copy.shape, copy.tolist()) == (view.format, view.shape, view.tolist())


def test_p5_a_memoryview_that_cannot_be_made_again_is_refused() -> None:
    for view in (memoryview(np.zeros(2, dtype="i4,f8")), memoryview(np.zeros((0, 3)))):
        with pytest.raises(codec.EncodeError, match="memoryview of format"):
            codec.encode([view])


@both_ways
def test_p12_a_memoryview_of_what_can_be_written_to_can_be_written_to(travel: Any) -> None:
    for size in (4, 100_000):
        view = memoryview(bytearray(size))
        copy = travel(view)
        copy[0] = 7
        assert (copy[0], view[0]) == (7, 0)
