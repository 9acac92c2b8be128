"""Races of the engine: stops against timers and ends, callbacks that fight back, the same names again.

R4, R10, R11, R15, R18.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from dremioframe.orchestration import DefinitionError, Pipeline, ProcessExecutor, Task, schedule_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def pipeline_of(*tasks: Task) -> Pipeline:
    pipeline = Pipeline("p")
    for task in tasks:
        pipeline.add_task(task)
    return pipeline


@pytest.mark.parametrize("delay_s", [0.0, 600.0], ids=["due", "not due"])
def test_r4_a_stop_comes_while_a_retry_waits(arm: Any, gate: Any, delay_s: float) -> None:
    """The coordinator stands just before its timers: one that is due is overtaken by the stop, another is dropped."""
    arm(**{"coordinator.timers": f"{gate.action}@1"})
    attempts = []

    def fail() -> None:
        attempts.append(1)
        raise ValueError(len(attempts))

    pipeline = pipeline_of(Task("t", fail, retries=1, retry_delay=delay_s, retry_max_delay=1000))
    handle = pipeline.start(executor="thread")
    gate.wait()
    handle.cancel()
    gate.open()
    run = handle.result(timeout=60)
    assert (run.status, run.tasks["t"].status, len(attempts)) == ("CANCELLED", "CANCELLED", 1)


def test_r4_the_retry_is_with_its_worker_when_the_stop_comes(arm: Any, gate: Any, tmp_path: Path) -> None:
    """The other order: its second attempt was submitted and received, and has not begun."""
    arm(**{"worker.received": f"{gate.action}@2"})
    starts = tmp_path / "starts"

    def fail() -> None:
        with open(starts, "a", encoding="ascii") as file:
            file.write("x")
        raise ValueError("again")

    with ProcessExecutor(1, kill_grace_s=0) as executor:
        handle = pipeline_of(Task("t", fail, retries=1, retry_delay=0)).start(executor=executor)
        gate.wait()
        handle.cancel()
        run = handle.result(timeout=60)
    assert (run.status, run.tasks["t"].status) == ("CANCELLED", "CANCELLED")
    assert starts.read_text() == "x"


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_r10_a_stop_that_comes_when_the_outcome_is_in_hand_changes_nothing(arm: Any, gate: Any, executor: str) -> None:
    arm(**{"coordinator.ends": f"{gate.action}@1"})
    pipeline = pipeline_of(Task("t", int))
    handle = pipeline.start(executor=executor, max_workers=1)
    gate.wait()
    handle.cancel()
    gate.open()
    run = handle.result(timeout=60)
    assert (run.tasks["t"].status, run["t"]) == ("SUCCESS", 0)
    handle.cancel()
    assert (run.tasks["t"].status, run.status, pipeline.last_run.status) == ("SUCCESS", "SUCCESS", "SUCCESS")


def test_r10_a_late_result_of_an_overdue_thread_changes_nothing() -> None:
    late, ended = threading.Event(), threading.Event()

    def slow() -> str:
        late.wait(20)
        ended.set()
        return "late"

    def until_it_has_ended() -> bool:
        late.set()
        return ended.wait(20)

    after = Task("after", until_it_has_ended, trigger_rule="all_done")
    slow_task = Task("slow", slow, timeout=0.05)
    slow_task.set_downstream(after)
    more = Task("more", int)
    after.set_downstream(more)
    run = pipeline_of(slow_task, after, more).run(executor="thread")
    assert (run.status, run.tasks["slow"].status, run["after"]) == ("FAILED", "FAILED", True)
    assert "slow" not in run


def test_r11_no_ceiling() -> None:
    def fail() -> None:
        raise ValueError

    free = Task("t", fail, retries=2, retry_delay=0.001, retry_max_delay=math.inf)
    assert len(pipeline_of(free).run(executor="inline").tasks["t"].attempts) == 3


def test_r11_delays_without_end() -> None:
    def fail() -> None:
        raise ValueError

    endless = Task("t", fail, retries=300, retry_delay=1e-9, retry_backoff=1e300, retry_max_delay=1e-5, retry_jitter=0)
    run = pipeline_of(endless).run(executor="inline")
    assert (run.status, len(run.tasks["t"].attempts)) == ("FAILED", 301)


@pytest.mark.parametrize(
    ("option", "number"),
    [
        (option, number)
        for option in ("retry_delay", "retry_backoff", "retry_max_delay", "retry_jitter")
        for number in (math.nan, math.inf, -1.0, -0.5)
        if (option, number) != ("retry_max_delay", math.inf)  # that means no ceiling
    ],
)
def test_r11_delays_that_are_none(option: str, number: float) -> None:
    with pytest.raises(DefinitionError, match=option):
        pipeline_of(Task("t", int, **{option: number})).run()


def submit_and_close(executor: ProcessExecutor) -> Callable[[object], None]:
    def on_run(run: object) -> None:
        inner = pipeline_of(Task("inner", lambda: "fine")).run(executor=executor)
        assert inner["inner"] == "fine"
        executor.close()
        raise RuntimeError("and it raises")

    return on_run


def test_r15_a_callback_that_submits_closes_and_raises() -> None:
    """It may; the schedule goes on, and its next run says that the executor is closed."""
    seen: list[object] = []
    with ProcessExecutor(1) as executor:
        hostile = submit_and_close(executor)

        def on_run(run: object) -> None:
            seen.append(run)
            hostile(run)

        handle = schedule_pipeline(pipeline_of(Task("t", int)), 0.01, max_runs=2, executor=executor, on_run=on_run)
    assert handle.run_count == 2
    assert seen[0].status == "SUCCESS"  # type: ignore[attr-defined]


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_r15_a_retry_predicate_that_raises_means_no_retry(executor: str) -> None:
    def hostile(error: BaseException) -> bool:
        raise RuntimeError("and so does it")

    def fail() -> None:
        raise ValueError("it fails")

    run = pipeline_of(Task("t", fail, retries=3, retry_on=hostile)).run(executor=executor)
    assert (run.tasks["t"].status, len(run.tasks["t"].attempts)) == ("FAILED", 1)
    assert isinstance(run.failures["t"].__cause__, ValueError)


def say_who_and_stay(context: Mapping[str, Any]) -> int:
    number, fifo = context["number"], context["fifo"]
    if fifo is not None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open(fifo, "w", encoding="ascii") as said:
            said.write(f"{os.getpid()}\n")
        time.sleep(600)
    return int(number)


def test_r18_many_runs_cancelled_and_the_same_names_again(tmp_path: Path) -> None:
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    pipeline = pipeline_of(*(Task(name, say_who_and_stay) for name in ("a", "b", "c")))
    with ProcessExecutor(2, kill_grace_s=0) as executor:
        for number in range(4):
            handle = pipeline.start({"number": number, "fifo": fifo}, executor=executor)
            with open(os.open(fifo, os.O_RDWR), encoding="ascii") as said:  # both are heard, together or one by one
                pids = {int(said.readline()), int(said.readline())}
            handle.cancel()
            assert handle.result(timeout=60).status == "CANCELLED"
            assert len(pids) == 2
            assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
            assert dict(pipeline.run({"number": -number, "fifo": None}, executor=executor)) == dict.fromkeys(
                "abc", -number
            )
