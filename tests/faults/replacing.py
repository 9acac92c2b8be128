"""Replaces one function after the other in a worker and says what that did to the tasks that follow it there. U32."""

from __future__ import annotations

import enum
import importlib
import itertools
import os

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task

FUNCTIONS = {
    "os": "write open close dup fstat fspath getpid kill access chdir memfd_create pwritev preadv",
    "time": "time monotonic_ns",
    "sys": "_getframe intern getrecursionlimit setrecursionlimit",
    "pickle": "dumps Pickler",
    "signal": "signal pthread_sigmask",
}


class Row:
    def __init__(self) -> None:
        self.values = [1]


class Colour(enum.Enum):
    RED = 1


def replace(module: str, name: str) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("replaced by a task")

    setattr(importlib.import_module(module), name, broken)


def colour() -> object:
    return Colour.RED.value


def long() -> object:
    return [Row(), bytes(300_000)]


def read(context: dict[str, list[bytes]]) -> object:
    return len(context["long"][1])


def fail() -> None:
    raise ValueError("its own")


def unsendable() -> object:
    return (each for each in ())


def harm(module: str, name: str) -> list[object]:
    """What went another way than it does when nothing is replaced."""
    tasks = [Task("replace", replace, (module, name)), Task("plain", int)]
    # A class by value needs cloudpickle in the worker: an Enum and others come to it by different ways.
    tasks += [Task(each.__name__, each) for each in (colour, long, read, fail, unsendable)]
    pipeline = Pipeline(f"{module}.{name}")
    for each in tasks:
        each.trigger_rule = "all_done"
        pipeline.add_task(each)
    for one, other in itertools.pairwise(tasks):
        one.set_downstream(other)
    with ProcessExecutor(1) as executor:
        run = pipeline.run(executor=executor, timeout=60)
        later = Pipeline("later").add_task(Task("later", os.getcwd)).run(executor=executor, timeout=60)
    kinds = {task: type(error).__name__ for task, error in run.failures.items()}
    pids = {attempt.worker_pid for record in run.tasks.values() for attempt in record.attempts}
    harmed: list[object] = []
    if kinds != {"fail": "TaskError", "unsendable": "PayloadError"}:
        harmed.append({task: str(error) for task, error in run.failures.items()})
    elif type(run.failures["fail"].__cause__) is not ValueError:
        harmed.append(repr(run.failures["fail"].__cause__))
    elif (run["colour"], run["read"]) != (1, 300_000):
        harmed.append((run["colour"], run["read"]))
    if dict(later) != {"later": os.getcwd()}:
        harmed.append({task: str(error) for task, error in later.failures.items()})
    if len(pids) != 1:
        harmed.append(f"{len(pids)} workers")
    return harmed


def main() -> None:
    for module, names in FUNCTIONS.items():
        for name in names.split():
            if harmed := harm(module, name):
                print(f"{module}.{name}", os.linesep.join(map(str, harmed)))
                raise SystemExit(1)
    print("nothing was harmed")


if __name__ == "__main__":
    main()
