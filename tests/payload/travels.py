"""The two ways of a value to another process: in a packet, and in shared memory."""

from __future__ import annotations

from typing import Any

import pytest

from dremioframe.orchestration.payload import codec
from dremioframe.orchestration.payload.segments import Segment


def through_bytes(value: object) -> Any:
    return codec.decode(codec.encode(value).to_bytes(), private=False)


def through_segment(value: object) -> Any:
    payload = codec.encode(value)
    segment = Segment.create(payload.parts, payload.size)
    try:
        return codec.decode(segment.map(), private=True)
    finally:
        segment.close()


both_ways = pytest.mark.parametrize("travel", [through_bytes, through_segment])
