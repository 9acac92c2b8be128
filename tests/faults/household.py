"""A coordinator with everything that it could leave behind; the scenarios of ``scenarios_clean`` end it.

    python household.py FOLDER ENDING

Two tasks make long results, one of which is kept in memory and one on a disk. Then two at once start a family each and
wait: children, a grandchild, children with a session of their own, a daemon. Who is born tells it through the FIFO
``FOLDER/told``, a line each: role and process id. ENDING says what becomes of the run if nobody ends it from outside.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task

FOLDER, ENDING = sys.argv[1:]
TOLD = f"{FOLDER}/told"


def tell(role, pid):
    with open(TOLD, "w") as told:
        told.write(f"{role} {pid}\n")


def wait_to_go_on():
    with open(f"{FOLDER}/go", "rb", buffering=0) as go:
        go.read(1)


def start_family():
    live = f"sleep 1000 & echo grandchild $! > {TOLD}; echo child $$ > {TOLD}; wait"
    subprocess.Popen(["sh", "-c", live])
    apart = f"echo apart $$ > {TOLD}; exec sleep 1000"
    subprocess.Popen(["sh", "-c", apart], start_new_session=True)
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.execvp("sh", ["sh", "-c", f"echo daemon $$ > {TOLD}; exec sleep 1000"])
    os.waitpid(middle, 0)
    tell("worker", os.getpid())


def busy():
    try:
        start_family()
        if ENDING in {"returns", "fails"}:
            wait_to_go_on()
            return
        time.sleep(1000)
    finally:
        tell("finally", os.getpid())


def stubborn():
    begun = False
    while True:
        try:
            if not begun:
                begun = True
                start_family()
            time.sleep(1000)
        except BaseException:
            tell("asked", os.getpid())


def fails():
    raise ValueError("on purpose")


def make():
    from dremioframe.orchestration.pool import memory

    results = [Task(name, lambda: b"x" * (2 << 20)) for name in ("first", "second")]
    results[0].set_downstream(results[1])
    tasks = [Task(f"busy{n}", stubborn if ENDING == "stubborn" else busy) for n in range(2)]
    if ENDING == "fails":
        tasks.append(Task("fails", fails))
        for task in tasks[:-1]:
            task.set_downstream(tasks[-1])
    pipeline = Pipeline("household")
    for task in (*results, *tasks):
        pipeline.add_task(task)
    for task in tasks[:2]:
        results[1].set_downstream(task)
    share = (3 << 20) / memory.usable_memory_bytes()  # room for one of the two
    grace_s = 600 if ENDING == "stubborn" else 5
    return pipeline, ProcessExecutor(2, kill_grace_s=grace_s, memory_budget=share, spill_dir=f"{FOLDER}/spill")


def belongings():
    """Descriptors of this process, by what they lead to."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}").partition(":[")[0])
        except FileNotFoundError:
            continue  # the listing's own
    return sorted(found)


def main():
    from loguru import logger  # so that whatever it opens is open before

    assert logger
    before = belongings()
    try:
        run_once()
    except KeyboardInterrupt:
        print("interrupted")
    except ExceptionGroup as error:
        print("failed", len(error.exceptions))
    with open(f"/proc/self/task/{os.getpid()}/children") as listing:
        children = listing.read()
    tell("kept", "nothing" if belongings() == before and not children else f"{belongings()} not {before}, {children}")


def run_once():
    tell("begin", os.getpid())
    pipeline, executor = make()
    if ENDING == "raises":  # in the user's program, while the run goes on
        pipeline.start(executor=executor)
        wait_to_go_on()
        raise ValueError("in the user's program")
    with executor:
        run = pipeline.run(executor=executor, raise_on_failure=ENDING == "fails")
        print("ended", run.status)


main()
