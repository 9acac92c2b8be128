"""Memory of the machine and of control groups, from files as the kernel writes them."""

from __future__ import annotations

import os
import resource

import pytest

from dremioframe.orchestration.pool import memory
from dremioframe.orchestration.pool.memory import Memory, OomKills

MEMINFO = "MemTotal:       24683456 kB\nMemFree:        22009000 kB\nMemAvailable:   20000000 kB\nBuffers:  1 kB\n"
V2, V1 = "0::/user/job\n", "9:name=systemd:/x\n4:memory:/user/job\n1:cpu:/y\n0::/\n"
V2_HERE, V1_HERE = "sys/fs/cgroup/user/job", "sys/fs/cgroup/memory/user/job"
MIB = 1 << 20


@pytest.fixture
def machine(tmp_path):
    """Writes files below a root of its own; gives that."""

    def write(files):
        for path, text in {"proc/meminfo": MEMINFO, **files}.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return str(tmp_path)

    return write


def test_this_machine():
    available, total = memory.look()
    assert MIB < available <= total < 1 << 50
    assert memory.usable_memory_bytes() == pytest.approx(available, rel=0.5)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, Memory(20_000_000 * 1024, 24_683_456 * 1024)),
        ({f"{V2_HERE}/memory.max": "max\n", f"{V2_HERE}/memory.current": "5\n"}, None),
        ({f"{V2_HERE}/memory.max": "700\n", f"{V2_HERE}/memory.current": "200\n"}, Memory(500, 700)),
        ({f"{V2_HERE}/memory.max": "700\n", f"{V2_HERE}/memory.current": "900\n"}, Memory(0, 700)),
        ({f"{V2_HERE}/memory.max": "700\n"}, None),
        ({"sys/fs/cgroup/user/memory.max": "600\n", "sys/fs/cgroup/user/memory.current": "1\n"}, Memory(599, 600)),
        (
            {
                f"{V1_HERE}/memory.limit_in_bytes": "9223372036854771712\n",
                f"{V1_HERE}/memory.usage_in_bytes": "7\n",
            },
            None,
        ),
        (
            {f"{V1_HERE}/memory.limit_in_bytes": "800\n", f"{V1_HERE}/memory.usage_in_bytes": "100\n"},
            Memory(700, 800),
        ),
        (
            {
                f"{V2_HERE}/memory.max": "1000\n",
                f"{V2_HERE}/memory.current": "990\n",
                f"{V2_HERE}/memory.stat": "anon 200\nfile 700\nshmem 100\ninactive_file 400\nactive_file 200\n",
            },
            Memory(610, 1000),  # cached files give way
        ),
        (
            {
                f"{V1_HERE}/memory.limit_in_bytes": "1000\n",
                f"{V1_HERE}/memory.usage_in_bytes": "990\n",
                f"{V1_HERE}/memory.stat": "inactive_file 1\nactive_file 2\ntotal_inactive_file 300\n"
                "total_active_file 90\n",
            },
            Memory(400, 1000),
        ),
    ],
)
def test_the_tightest_group_counts_and_cached_files_do_not(machine, files, expected):
    cgroup = V1 if any("cgroup/memory" in path for path in files) else V2
    root = machine({"proc/self/cgroup": cgroup, **files})
    assert memory.look(root) == (expected or Memory(20_000_000 * 1024, 24_683_456 * 1024))


EVENTS = "low 0\nhigh 0\nmax 21\noom 3\noom_kill 2\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"
VMSTAT = "nr_free_pages 5\noom_kill 9\nnuma_hit 4\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": V2, f"{V2_HERE}/memory.events": EVENTS}, OomKills(2, "in this control group")),
        ({"proc/self/cgroup": V1, f"{V1_HERE}/memory.oom_control": CONTROL}, OomKills(5, "in this control group")),
        # A container sees its own group as the top, whatever its path says.
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/memory.events": EVENTS}, OomKills(2, "in this control group")),
        # The machine's own top group does not count; neither did kernels before 4.13.
        ({"proc/self/cgroup": "0::/\n", "proc/vmstat": VMSTAT}, OomKills(9, "on this machine")),
        ({"proc/self/cgroup": V1, f"{V1_HERE}/memory.oom_control": "under_oom 0\n"}, None),
        ({}, None),
    ],
)
def test_o3_the_kernels_count_of_out_of_memory_kills(machine, files, expected):
    assert memory.oom_kills(machine(files)) == expected


def test_what_is_not_there_is_no_error_and_no_free_descriptor_is_one(tmp_path):
    assert memory.look(str(tmp_path)).total > 1 << 50
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            memory.look()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
