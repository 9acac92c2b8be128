"""What our workers run: the same functions as everywhere, fed from ``context``, as our tasks are.

What may not live here: work of its own; that would make ours another workload than the peers'.
"""

from __future__ import annotations

from benchmarks import actions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def step(context: Any) -> int:
    """``step_7`` adds one to the value of ``step_6``."""
    number = int(context.task_name.removeprefix("step_"))
    above: int = context[f"step_{number - 1}"]
    return actions.increment(above)


def leaf(context: Any) -> bytes:
    return actions.kilobyte(context["source"])


def gather(width: int, context: Any) -> int:
    return actions.total_length(*(context[f"leaf_{number}"] for number in range(width)))


def reduce_made(kind: str, context: Any) -> float:
    return actions.reduce_value(kind, context["make"])


def read_made(context: Any) -> tuple[float, int, int]:
    return actions.read_and_look(context["make"])


def recorded(cpu_s: float, output_bytes: int, upstream: tuple[str, ...], context: Any) -> bytes:
    return actions.recorded(cpu_s, output_bytes, *(context[name] for name in upstream))


def die_then_tell(path: str, context: Any) -> float:
    """The first attempt dies, the second says how long ago."""
    if context.attempt == 1:
        actions.note_and_die(path)
    return actions.milliseconds_since(path)


def length_of_source(context: Any) -> int:
    return len(context["source"])
