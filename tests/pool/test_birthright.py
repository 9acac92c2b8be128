"""What a worker is born with: path, arguments, flags, limits, and no descriptor that is not its own."""

from __future__ import annotations

import os
import resource
import sys

from dremioframe.orchestration.pool import descriptors


def test_a_worker_has_the_coordinators_path_arguments_and_flags(make_pool, connect, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["my-program", "--flag"])
    client = connect(make_pool())
    source = "import sys; out = repr((sys.path, sys.argv, sys.flags.dont_write_bytecode, sys.prefix)).encode()"
    assert client.run(source) == repr((sys.path, sys.argv, sys.flags.dont_write_bytecode, sys.prefix)).encode()


def test_thread_limits_are_set_before_anything_is_imported(make_pool, connect, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("POLARS_MAX_THREADS", "7")
    client = connect(make_pool(threads_per_worker=3, env={"EXTRA": "yes", "MKL_NUM_THREADS": "5"}))
    source = """
        import os
        names = ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "EXTRA", "MKL_NUM_THREADS")
        out = " ".join(os.environ[name] for name in names).encode()
    """
    assert client.run(source) == b"3 7 yes 5"


def test_workers_have_no_descriptors_of_the_coordinator(make_pool, connect, tmp_path):
    """Not even those that the user's program has made inheritable; a pipe held by a worker would never end."""
    read, write = os.pipe()
    for fd in (read, write):
        os.set_inheritable(fd, True)  # noqa: FBT003 - the standard library's signature
    try:
        client = connect(make_pool(size=2))
        source = """
            import os
            names = []
            for fd in os.listdir("/proc/self/fd"):
                try:
                    names.append(os.readlink(f"/proc/self/fd/{fd}"))
                except OSError:
                    pass
            out = repr(names).encode()
        """
        names = eval(client.run(source))
        assert f"pipe:[{os.fstat(read).st_ino}]" not in names
        assert len([name for name in names if name.startswith("socket:")]) == 2
        assert not any("pidfd" in name or "eventpoll" in name for name in names)
    finally:
        os.close(read)
        os.close(write)


def test_the_descriptor_limit_is_raised_for_the_coordinator_only_and_put_back(make_pool, connect):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (500, before[1]))
    try:
        pool = make_pool()
        client = connect(pool)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 500
        limit = client.run("import resource; out = str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]).encode()")
        assert limit == b"500"
        client.lease.close()
        pool.close()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 500
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_worker_leads_its_own_session_and_has_no_terminal(client):
    assert client.run("import os; out = repr(os.getsid(0) == os.getpgid(0) == os.getpid()).encode()") == b"True"


def test_two_pools_share_the_raised_limit():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert descriptors.acquire() == before[0]
    assert descriptors.acquire() == before[0]
    descriptors.release()
    descriptors.release()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
