"""Memory as the kernel tells it, of the machine and of this process, in bytes."""

from __future__ import annotations

from pathlib import Path


def _field(path: str, name: str) -> int:
    for line in Path(path).read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"{name} is not in {path}")


def available_bytes() -> int:
    """What the machine could still give out."""
    return _field("/proc/meminfo", "MemAvailable")


def shared_bytes() -> int:
    """Shared memory of the whole machine: memfds, /dev/shm."""
    return _field("/proc/meminfo", "Shmem")


def total_bytes() -> int:
    return _field("/proc/meminfo", "MemTotal")


def resident_bytes() -> int:
    return _field("/proc/self/status", "VmRSS")


def peak_resident_bytes() -> int:
    return _field("/proc/self/status", "VmHWM")
