"""What this process may use of the machine: CPUs, memory, and how many threads that leaves to each worker.

What lives here: affinity, cgroup v1 and v2, and the names under which numeric libraries look for their thread limit.
"""

from __future__ import annotations

import errno
import math
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Read once by each library when it is imported; a running thread pool cannot be resized, so they are set before.
_THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ARROW_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)

#: pyarrow's allocator starts a thread of its own when it is imported, unless told not to: that would keep pyarrow, and
#: all that imports it, from being preloaded, because a process with threads cannot be forked safely.
_NO_ALLOCATOR_THREAD = ("JE_ARROW_MALLOC_CONF", "background_thread:false")

#: cgroup v1 says "no limit" by a number near 2**63.
_NO_LIMIT = 1 << 60


def usable_cpus() -> int:
    """CPUs that this process may use at once: affinity and cgroup quota counted; at least 1."""
    cpus = len(os.sched_getaffinity(0))
    for quota in _cpu_quotas():
        cpus = min(cpus, max(1, math.ceil(quota)))
    return cpus


def usable_memory_bytes() -> int:
    """Memory this process could still get: what the machine has available, or its cgroups leave if that is less.

    Raises:
        OSError: No descriptor to read it by.
    """
    available = _available_memory()
    for limit, used in _memory_limits():
        available = min(available, max(0, limit - used))
    return available


def _available_memory() -> int:
    """What the kernel says could still be had. Not by psutil: this is read before a program's first result."""
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return _NO_LIMIT


def thread_limit_env(threads: int, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Thread settings for a worker that has ``threads`` CPUs; those that ``environ`` (our own) has are left out.

    Example:
        >>> thread_limit_env(1, {})["OMP_NUM_THREADS"]
        '1'
    """
    given = os.environ if environ is None else environ
    settings = {**dict.fromkeys(_THREAD_LIMITS, str(threads)), **dict((_NO_ALLOCATOR_THREAD,))}
    return {name: value for name, value in settings.items() if name not in given}


def _cpu_quotas() -> Iterator[float]:
    for directory in _cgroup_directories("cpu"):
        words = _read(f"{directory}/cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            yield int(words[0]) / int(words[1])
        quota, period = _number(f"{directory}/cpu.cfs_quota_us"), _number(f"{directory}/cpu.cfs_period_us")
        if quota is not None and period and quota > 0:
            yield quota / period


def _memory_limits() -> Iterator[tuple[int, int]]:
    for directory in _cgroup_directories("memory"):
        for limit_file, used_file in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, used = _number(f"{directory}/{limit_file}"), _number(f"{directory}/{used_file}")
            if limit is not None and used is not None and limit < _NO_LIMIT:
                yield limit, used


def _cgroup_directories(controller: str) -> Iterator[str]:
    """The directory of this process in each hierarchy that may limit it, and all parents: any may be the tightest."""
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root = "/sys/fs/cgroup"
        elif controller in controllers.split(","):
            root = f"/sys/fs/cgroup/{controller}"
        else:
            continue
        path = path.rstrip("/")
        while path:
            yield root + path
            path = path.rpartition("/")[0]
        yield root


def _number(path: str) -> int | None:
    text = _read(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return ""  # this kernel or container does not have it, which is an answer
