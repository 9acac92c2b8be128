"""What the tasks of a chaos case do, and the marks they leave.

A mark is one line, appended by one write: ``S`` (start), ``E`` (end), ``C`` (it has started a child) or ``!`` (a
promise broken under the task's own eyes), task, attempt (0 if it cannot know), process, its birth, nanoseconds of the
monotonic clock, and as JSON the digests of the values it has read, or who the child is. A value is a digest of the
task's name and of all that it read, and bytes that follow from that: a wrong, stale or damaged input anywhere above
changes it.

What lives here: code that runs in workers. What may not: judgement of what ran (``verify``).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

from dremioframe.orchestration import SkipTask, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Protocol

    from .cases import Spec

    class Context(Protocol):
        attempt: int
        upstream: Mapping[str, str]

        def get(self, name: str, default: object = None) -> Any: ...


Value = tuple[str, bytes]


class Mark(NamedTuple):
    what: str
    task: str
    attempt: int
    pid: int
    born: int
    at_ns: int
    seen: dict[str, str]


class Place(NamedTuple):
    """Where a task runs.

    Attributes:
        marks: The file for the marks, or "" for none.
        home: The coordinator's process: what would end or hold that one is only played there.
    """

    marks: str
    home: int


def build(specs: Sequence[Spec], place: Place) -> list[Task]:
    tasks: dict[str, Task] = {}
    for spec in specs:
        above = [tasks[name] for name in spec.upstream]
        action: Callable[..., Value] = with_context if spec.reads == "context" else without_context
        task = tasks[spec.name] = Task(
            spec.name,
            action,
            (tuple(spec), tuple(place)),
            retries=spec.retries,
            retry_delay=0.0,
            trigger_rule=spec.rule,
            timeout=spec.timeout,
            priority=spec.priority,
        )
        for upstream in above:
            upstream.set_downstream(task)
    return list(tasks.values())


def with_context(spec: tuple[Any, ...], place: tuple[str, int], context: Context) -> Value:
    from .cases import Spec

    facts, where = Spec(*spec), Place(*place)
    _begin(facts, where, context.attempt)
    names = [*facts.upstream, facts.far] if facts.far else facts.upstream
    values = {name: context.get(name) for name in names}
    return _finish(facts, where, context.attempt, {name: value for name, value in values.items() if value is not None})


def without_context(spec: tuple[Any, ...], place: tuple[str, int]) -> Value:
    from .cases import Spec

    facts, where = Spec(*spec), Place(*place)
    _begin(facts, where, 0)
    return _finish(facts, where, 0, {})


def value_of(name: str, seen: Mapping[str, str], size: int) -> Value:
    digest = hashlib.blake2b(repr((name, sorted(seen.items()))).encode(), digest_size=8).hexdigest()
    return digest, blob_of(digest, size)


def blob_of(digest: str, size: int) -> bytes:
    return (digest.encode() * (size // 16 + 1))[:size]


def is_intact(value: Value) -> bool:
    digest, blob = value
    return blob == blob_of(digest, len(blob))


# ------------------------------------------------------------------------------------------------------------ attempts


def _begin(spec: Spec, place: Place, attempt: int) -> None:
    if attempt > 1 and place.marks and os.getpid() != place.home:
        own = read_marks(place.marks, spec.name)
        for mark in own:
            if mark.what == "S" and _goes_on(mark, own):
                _mark(place, "!", spec.name, attempt, {"overlaps": f"attempt {mark.attempt} in {mark.pid}"})
    _mark(place, "S", spec.name, attempt, {})


def _goes_on(start: Mark, marks: Sequence[Mark]) -> bool:
    """Whether the attempt that started there is still going on: it has not marked its end, and its process lives."""
    if start.pid == os.getpid():
        return False
    if not _lives(start.pid, start.born):
        return False
    return not any(mark.what == "E" and mark.attempt == start.attempt for mark in marks)


def living_children(path: str, worker: int) -> list[int]:
    """What tasks have started in this worker and is still there."""
    marks = (mark for mark in read_marks(path) if mark.what == "C" and mark.pid == worker)
    children = [(int(pid), int(born)) for mark in marks for pid, born in mark.seen.items()]
    return [pid for pid, born in children if _lives(pid, born)]


def _lives(pid: int, born: int) -> bool:
    state, now = _state_and_birth(pid)
    return state not in {"", "Z", "X"} and now == born  # else dead, perhaps not yet reaped; or another of that number


def _state_and_birth(pid: int) -> tuple[str, int]:
    """The kernel's letter for what it does, and its birth in ticks of the machine's life; nothing if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return "", 0
    return fields[0], int(fields[19])


def _finish(spec: Spec, place: Place, attempt: int, values: dict[str, Value]) -> Value:
    damaged = [name for name, value in values.items() if not is_intact(value)]
    if damaged:
        _mark(place, "!", spec.name, attempt, {"damaged": ", ".join(damaged)})
    seen = {name: value[0] for name, value in values.items()}
    act = spec.act_of(attempt or 1)
    _work(spec, place, act, attempt)
    _mark(place, "E", spec.name, attempt, seen)
    if act == "fail":
        raise ValueError(f"{spec.name} fails in attempt {attempt}, as it is to")
    if act == "skip":
        raise SkipTask("as it is to")
    if act == "exit":
        _exit(place)
    return value_of(spec.name, seen, spec.size)


def _work(spec: Spec, place: Place, act: str, attempt: int) -> None:
    at_home = os.getpid() == place.home
    if act == "hang":
        time.sleep((spec.timeout or 0.0) * 1.2 if at_home and place.marks else 0 if at_home else 600)
    if act in {"child", "orphan"} and not at_home:
        child = subprocess.Popen(["sleep", "0.02" if act == "child" else "30"], start_new_session=act == "orphan")
        _mark(place, "C", spec.name, attempt, {str(child.pid): str(_state_and_birth(child.pid)[1])})
        if act == "child":
            child.wait()
        else:
            child.returncode = 0  # left behind on purpose, without a warning
    if spec.takes_s and (place.marks or not at_home):
        until = time.monotonic() + spec.takes_s
        while time.monotonic() < until:
            pass


def _exit(place: Place) -> None:
    if os.getpid() == place.home:
        raise ConnectionError("a process that is needed would end here")
    os._exit(5)


# --------------------------------------------------------------------------------------------------------------- marks


def _mark(place: Place, what: str, task: str, attempt: int, seen: dict[str, str]) -> None:
    if not place.marks:
        return
    pid = os.getpid()
    born = _state_and_birth(pid)[1]
    line = f"{what} {task} {attempt} {pid} {born} {time.monotonic_ns()} {json.dumps(seen)}\n"
    file = os.open(place.marks, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def read_marks(path: str, task: str = "") -> list[Mark]:
    """All marks, or those of one task: quickly, since its process may not live for long."""
    with open(path, encoding="utf-8") as file:
        lines = [line for line in file.read().splitlines() if not task or f" {task} " in line]
    found = [
        Mark(what, name, int(attempt), int(pid), int(born), int(at), json.loads(seen))
        for what, name, attempt, pid, born, at, seen in (line.split(" ", 6) for line in lines)
    ]
    return [mark for mark in found if not task or mark.task == task]
