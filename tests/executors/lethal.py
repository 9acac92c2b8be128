"""Tasks that must be killed, and tasks that kill their worker. Workers import this: nothing slow, so no pytest here."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "pool"))

from pool_waiting import eventually


def note_pid(path):
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")


def pids(path):
    return [int(line) for line in Path(path).read_text().split()]


def endless_python(path):
    note_pid(path)
    while True:
        pass


def endless_c(path):
    note_pid(path)
    re.match(r"(a+)+$", "a" * 60 + "b")  # holds the GIL for longer than anybody lives


def swallows_everything(path):
    note_pid(path)
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


def ignores_sigterm(path):
    note_pid(path)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)


def stops_itself(path):
    note_pid(path)
    os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        time.sleep(1)


def with_children(path):
    note_pid(path)
    code = "import os, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); time.sleep(1000)"
    subprocess.Popen([sys.executable, "-c", code, path])
    subprocess.Popen([sys.executable, "-c", code, path], start_new_session=True)
    daemonise = f"import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        exec({code!r})"
    subprocess.run([sys.executable, "-c", daemonise, path], check=True)
    eventually(lambda: len(pids(path)) == 4)
    while True:
        time.sleep(1)


STUCK = [endless_python, endless_c, swallows_everything, ignores_sigterm, stops_itself, with_children]

#: How a worker dies: the task, its exit code, its signal.
DEATHS = {
    "exit 0": (lambda: os._exit(0), 0, None),
    "exit 7": (lambda: os._exit(7), 7, None),
    "SIGKILL": (lambda: os.kill(os.getpid(), signal.SIGKILL), None, signal.SIGKILL),
    "SIGSEGV": (lambda: os.kill(os.getpid(), signal.SIGSEGV), None, signal.SIGSEGV),
    "abort": (os.abort, None, signal.SIGABRT),
}
