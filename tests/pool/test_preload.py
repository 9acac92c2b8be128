"""Preloading: what may be preloaded, what is refused, and how that is told."""

from __future__ import annotations

import os

import pytest
from pool_waiting import alive, gone

from dremioframe.orchestration.errors import WorkerStartError
from dremioframe.orchestration.payload import references
from dremioframe.orchestration.pool.events import CallLost


def refusal(client):
    with pytest.raises(WorkerStartError) as caught:
        client.end(client.submit("pass"))
    return caught.value


@pytest.mark.parametrize("module", ["pandas", "pyarrow"])
def test_u33_pyarrow_and_what_imports_it_can_be_preloaded(make_pool, connect, monkeypatch, module):
    monkeypatch.delenv("JE_ARROW_MALLOC_CONF", raising=False)
    client = connect(make_pool(preload=(module,)))
    source = f"import os, sys; out = repr(({module!r} in sys.modules, os.environ['JE_ARROW_MALLOC_CONF'])).encode()"
    assert client.run(source) == b"(True, 'background_thread:false')"


def test_u33_the_users_own_allocator_settings_win_and_the_thread_is_named(make_pool, connect, monkeypatch):
    monkeypatch.setenv("JE_ARROW_MALLOC_CONF", "background_thread:true")
    error = refusal(connect(make_pool(preload=("pyarrow",))))
    assert "preload module 'pyarrow' leaves threads running (native thread 'jemalloc_bg_thd'" in str(error)


def test_o8_a_module_that_cannot_be_imported_is_tried_once_and_told_in_words(make_pool, connect, tmp_path, monkeypatch):
    tries = tmp_path / "tries"
    (tmp_path / "hopeless_module.py").write_text(f"open({str(tries)!r}, 'a').write('x')\nimport no_such_module_xyz\n")
    monkeypatch.syspath_prepend(tmp_path)
    error = refusal(connect(make_pool(preload=("hopeless_module",))))
    words = "preload module 'hopeless_module' cannot be imported: ModuleNotFoundError: No module named"
    assert str(error).startswith(f"no worker process could be started: {words}")
    assert "hopeless_module.py" in error.boot_traceback
    assert tries.read_text() == "x"


def test_a_preloaded_module_that_closes_standard_descriptors_leaves_the_null_device(
    make_pool, connect, tmp_path, monkeypatch
):
    (tmp_path / "closing_module.py").write_text("import os\nfor fd in (0, 1, 2): os.close(fd)")
    monkeypatch.syspath_prepend(tmp_path)
    client = connect(make_pool(preload=("closing_module",)))
    look = "import os; out = repr([os.readlink(f'/proc/self/fd/{fd}') for fd in (0, 1, 2)]).encode()"
    assert client.run(look) == repr([os.devnull] * 3).encode()


def test_o8_the_next_run_is_a_new_try(make_pool, connect, tmp_path, monkeypatch):
    (tmp_path / "late_module.py").write_text("import module_that_comes_late")
    monkeypatch.syspath_prepend(tmp_path)
    pool = make_pool(preload=("late_module",))
    first = connect(pool)
    refusal(first)
    first.lease.close()
    (tmp_path / "module_that_comes_late.py").touch()
    assert connect(pool).run("out = b'now'") == b"now"


def test_o6_an_initializer_that_raises_is_told_as_itself(make_pool, connect):
    def initializer():
        return 1 // 0

    error = refusal(connect(make_pool(initializer=references.pack_code(initializer))))
    assert str(error).endswith("the initializer raised ZeroDivisionError: integer division or modulo by zero")
    assert "in initializer" in error.boot_traceback


def test_o6_an_initializer_whose_exception_fights_back_is_told_by_its_class(make_pool, connect):
    class Fights(Exception):
        def __str__(self):
            raise SystemExit(3)

    def initializer():
        raise Fights

    error = refusal(connect(make_pool(initializer=references.pack_code(initializer))))
    assert "Fights: its message cannot be had" in str(error)


def test_a_runner_that_cannot_be_imported(make_pool, connect):
    error = refusal(connect(make_pool(runner="pool_runner:no_such_name")))
    assert "the runner 'pool_runner:no_such_name' cannot be imported: AttributeError" in str(error)


STARTS = """
import os, subprocess
processes = [subprocess.Popen(["sleep", "600"], start_new_session=apart) for apart in (False, True)]
pids = [process.pid for process in processes]
"""
PIDS = "import starts_processes; out = repr(starts_processes.pids).encode()"


def test_processes_that_a_preload_module_has_started_live_as_long_as_the_pool(
    make_pool, connect, tmp_path, monkeypatch
):
    (tmp_path / "starts_processes.py").write_text(STARTS)
    monkeypatch.syspath_prepend(tmp_path)
    pool = make_pool(preload=("starts_processes",))
    client = connect(pool)
    pids = eval(client.run(PIDS))
    assert isinstance(client.end(client.submit("import os; os._exit(1)")), CallLost)
    assert eval(client.run(PIDS)) == pids
    assert all(map(alive, pids))
    client.lease.close()
    pool.close()
    assert all(map(gone, pids))


def test_o20_processes_that_a_preload_module_has_started_end_with_the_coordinator(script, tmp_path):
    (tmp_path / "starts_processes.py").write_text(STARTS)
    body = f"""
        client = Client(pool)
        ended = client.end(client.submit("import os; os._exit(1)"))
        tell(*eval(client.run({PIDS!r})))
        wait()
    """
    program = script(body, preload=("starts_processes",))
    pids = [int(pid) for pid in program.hear()]
    program.hear_zygote()
    assert all(map(alive, pids))
    program.kill()
    assert all(map(gone, pids))
