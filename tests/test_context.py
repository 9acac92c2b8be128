"""The mapping that a task sees."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dremioframe.orchestration.context import Context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dremioframe.orchestration import OrchestrationError

READERS = 4


class MeetingSource:
    """Gives another object to each that asks, and to all of them at once."""

    def __init__(self) -> None:
        self.at_once = threading.Barrier(READERS)

    def run_names(self) -> tuple[str, ...]:
        return ("x",)

    def value(self, name: str) -> object:
        self.at_once.wait(30)
        return [name]

    def upstream(self) -> Mapping[str, str]:
        return {}

    def errors(self) -> Mapping[str, OrchestrationError]:
        return {}


def test_threads_of_a_task_that_read_a_value_at_once_get_the_same_object() -> None:
    context = Context(MeetingSource(), run_id="r", pipeline_name="p", task_name="t", attempt=1)
    with ThreadPoolExecutor(READERS) as threads:
        values = [each.result(30) for each in [threads.submit(context.__getitem__, "x") for _ in range(READERS)]]
    assert {id(value) for value in values} == {id(context["x"])}
