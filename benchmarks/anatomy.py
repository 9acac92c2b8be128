"""Where the microseconds of one task go, and how they grow: the figures of ``docs/performance.md`` besides the table.

    python -m benchmarks.anatomy

Pieces are the engine's own functions, each called alone with what a task that does nothing gives it: warm, so they add
up to less than the whole, and the rest is caches and waking. The whole is processor time of real runs. Growth is
processor and wall time of real runs with one thing changed at a time.

What may not live here: comparisons with other engines (``make bench``), and a second implementation of anything.
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import actions, dag_actions
from dremioframe.orchestration import Pipeline, ProcessExecutor, Task
from dremioframe.orchestration.compile import compile_tasks
from dremioframe.orchestration.machine.run_machine import RunMachine
from dremioframe.orchestration.payload import codec
from dremioframe.orchestration.pool import channel, frames, status_page
from dremioframe.orchestration.pool.ring import RingReader, RingWriter

from .workloads.engine import run_tasks, warm_executor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dremioframe.orchestration import PipelineRun

REPEATS = 2_000
ROUNDS = 7
READERS = 100
BODY = bytes(100)


class Piece(NamedTuple):
    where: str
    what: str
    us: float


def best_us(function: Callable[[], object], calls: int = REPEATS) -> float:
    """Microseconds a call, of the best of several rounds: what disturbs a round only makes it longer."""
    found = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(calls):
            function()
        found.append((time.perf_counter() - started) / calls * 1e6)
    return min(found)


# -------------------------------------------------------------------------------------------------------------- pieces


def pieces() -> Iterator[Piece]:
    yield Piece("before", "Task(...) and add_task", best_us(_declaring(), 1) / REPEATS)
    tasks = [Task(f"task_{number}", actions.nothing) for number in range(REPEATS)]
    yield Piece("before", "compile", best_us(lambda: compile_tasks(tasks), 1) / REPEATS)
    dag = compile_tasks(tasks)
    yield Piece("coordinator", "state machine: take, succeeded", best_us(lambda: _wheel(dag), 1) / REPEATS)
    yield from _wire()
    yield from _ring()
    yield Piece("worker", "pack a small result", best_us(lambda: codec.encode(None).parts))
    yield Piece("worker", "processor time and peak (getrusage)", best_us(lambda: resource.getrusage(_SELF)))


_SELF = resource.RUSAGE_SELF


def _declaring() -> Callable[[], None]:
    def declare() -> None:
        pipeline = Pipeline("declared")
        for number in range(REPEATS):
            pipeline.add_task(Task(f"task_{number}", actions.nothing))

    return declare


def _wheel(dag: Any) -> None:
    machine = RunMachine(dag, "leaves")
    machine.start()
    while taken := machine.take(32):
        machine.succeeded(taken)


def _wire() -> Iterator[Piece]:
    here, there = channel.pair()
    call_mark = frames.mark(frames.Kind.CALL, 1)
    packet = frames.pack_call(call_mark, 7, BODY)
    buffer = bytearray(frames.PACKET_LIMIT + 1)

    def send_and_receive() -> None:
        here.send(packet)
        there.receive_into_waiting(buffer)

    yield Piece("wire", "a packet: send and receive, in one process", best_us(send_and_receive))
    yield Piece("coordinator", "frame of a call", best_us(lambda: frames.pack_call(call_mark, 7, BODY)))
    here.close()
    there.close()


def _ring() -> Iterator[Piece]:
    page = status_page.StatusPage.create("anatomy")
    try:
        writer, reader = RingWriter(page), RingReader(page)
        outcome = frames.pack_outcome(1, 7, 0, 1000, (1, 2, 3, 4), b"x" * 20)

        def put_and_receive() -> None:
            writer.put(outcome)
            reader.receive()

        yield Piece("wire", "an outcome through the ring: put and receive", best_us(put_and_receive))
    finally:
        page.close()


# --------------------------------------------------------------------------------------------------------------- whole


class Cost(NamedTuple):
    """Microseconds a task, an edge or a hand-over: wall time, and processor time of the coordinator and of workers."""

    wall: float
    coordinator: float
    worker: float


def cost(executor: ProcessExecutor, make: Callable[[], list[Task]], units: int) -> Cost:
    """The median of some runs, for each of ``units``."""
    found = []
    for _ in range(3):
        tasks = make()
        wall, cpu = time.perf_counter(), time.process_time()
        run = run_tasks("cost", tasks, executor)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        found.append(Cost(*(1e6 / units * seconds for seconds in (wall, cpu, _worker_seconds(run)))))
    return Cost(*(statistics.median(column) for column in zip(*found, strict=True)))


def _worker_seconds(run: PipelineRun) -> float:
    return sum(task.attempts[-1].cpu_s or 0.0 for task in run.tasks.values())


def independent(count: int) -> Callable[[], list[Task]]:
    return lambda: [Task(f"task_{number}", actions.nothing) for number in range(count)]


def fan_in(width: int, consumers: int) -> Callable[[], list[Task]]:
    """``consumers`` tasks, each of which reads the kilobyte of ``width`` others."""

    def make() -> list[Task]:
        sources = [Task(f"leaf_{number}", actions.kilobyte, (number,)) for number in range(width)]
        readers = [Task(f"gather_{number}", dag_actions.gather, (width,)) for number in range(consumers)]
        for reader in readers:
            for source in sources:
                source.set_downstream(reader)
        return sources + readers

    return make


def handed_over(size: int) -> Callable[[], list[Task]]:
    """A value of ``size`` bytes from one task to the next."""

    def make() -> list[Task]:
        source = Task("source", bytes, (size,))
        return [source, source.set_downstream(Task("reader", dag_actions.length_of_source))]

    return make


def growth() -> Iterator[tuple[str, Cost]]:
    workers = len(os.sched_getaffinity(0))
    with warm_executor(workers) as executor:
        for count in (1_000, 10_000, 100_000):
            yield f"{count:,} independent tasks", cost(executor, independent(count), count)
        for width in (1, 10, 100, 1_000):
            each = cost(executor, fan_in(width, READERS), READERS * width)
            yield f"{READERS} readers of {width:,} upstreams each: an edge", each
        for size in (1_000, 60_000, 70_000, 1_000_000, 16_000_000, 256_000_000):
            yield f"{size:,} bytes from task to task, both tasks", cost(executor, handed_over(size), 1)
    for number in (1, 2, 4, 8):
        with warm_executor(number) as executor:
            yield (
                f"10,000 tasks on {number} workers ({workers} processors)",
                cost(executor, independent(10_000), 10_000),
            )


def text() -> str:
    """All of it, as lines."""
    lines = ["pieces, warm and alone"]
    lines += [f"  {piece.where:12} {piece.what:46} {piece.us:7.2f} us" for piece in pieces()]
    lines += ["", f"{'whole runs, microseconds':50} {'wall':>9} {'coordinator':>13} {'workers':>9}"]
    lines += [
        f"  {what:48} {found.wall:9.1f} {found.coordinator:13.1f} {found.worker:9.1f}" for what, found in growth()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(text())
