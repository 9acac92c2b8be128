"""Waiting for processes that need not be ours, for what the kernel gives no event for, and what dead ones have left."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path


def eventually(predicate, timeout_s=60.0):
    """Poll for what the kernel gives no event for."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < deadline, "this never became true"
        time.sleep(0.005)


def alive(pid):
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] not in b"ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid, timeout_s=60.0):
    """Wait for the end of a process that need not be ours."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], timeout_s)[0])
    finally:
        os.close(pidfd)


def ownerless():
    """Names in /dev/shm of what no living process has mapped: a dead one has left it, or one is just making it."""
    inodes = {entry.inode(): entry.name for entry in os.scandir("/dev/shm")}  # a semaphore is mapped under another name
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            mapped = maps.read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has ended, or is another user's
        for line in mapped:
            if "/dev/shm/" in line:
                inodes.pop(int(line.split()[4]), None)
    return set(inodes.values())
