"""What this process may use of the machine: CPUs, and how many threads that leaves to each worker.

What lives here: affinity, quotas, and the names under which numeric libraries look for their thread limit. What may
not: memory (``memory``), and where control groups are (``cgroups``).
"""

from __future__ import annotations

import math
import os

from . import cgroups

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


def usable_cpus(root: str = "") -> int:
    """CPUs that this process may use at once: affinity and cgroup quota counted; at least 1."""
    cpus = len(os.sched_getaffinity(0))
    for quota in _cpu_quotas(root):
        cpus = min(cpus, max(1, math.ceil(quota)))
    return cpus


def thread_limit_env(threads: int, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Thread settings for a worker that has ``threads`` CPUs; those that ``environ`` (our own) has are left out.

    Example:
        >>> thread_limit_env(1, {})["OMP_NUM_THREADS"]
        '1'
    """
    given = os.environ if environ is None else environ
    settings = {**dict.fromkeys(_THREAD_LIMITS, str(threads)), **dict((_NO_ALLOCATOR_THREAD,))}
    return {name: value for name, value in settings.items() if name not in given}


def _cpu_quotas(root: str) -> Iterator[float]:
    for directory in cgroups.directories("cpu", root):
        words = cgroups.read(f"{directory}/cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            yield int(words[0]) / int(words[1])
        quota, period = (
            cgroups.number(f"{directory}/cpu.cfs_quota_us"),
            cgroups.number(f"{directory}/cpu.cfs_period_us"),
        )
        if quota is not None and period and quota > 0:
            yield quota / period
