"""Runs at odd places: in a daemonic process of multiprocessing, a worker, a sub-interpreter, at the program's end."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest


def output_of(source: str) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(source)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_a6_in_a_daemonic_process_of_multiprocessing() -> None:
    done = output_of("""
        import multiprocessing
        from dremioframe.orchestration import Pipeline, Task
        def inner():
            run = Pipeline("p").add_task(Task("t", lambda: 42)).run(executor="process", max_workers=2)
            print(run["t"], flush=True)
        process = multiprocessing.get_context("fork").Process(target=inner, daemon=True)
        process.start()
        process.join()
        print(process.exitcode)
    """)
    assert done.stdout.split() == ["42", "0"], done.stderr


def test_a8_in_an_atexit_handler() -> None:
    done = output_of("""
        import atexit
        from dremioframe.orchestration import OrchestrationError, Pipeline, Task
        @atexit.register
        def last():
            for executor in ("inline", "process"):
                try:
                    print(Pipeline("p").add_task(Task("t", lambda: 42)).run(executor=executor)["t"], flush=True)
                except OrchestrationError as error:
                    print("refused:", error, flush=True)
    """)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    assert all(line == "42" or line.startswith("refused:") for line in lines)
    assert "Traceback" not in done.stderr


def test_a4_inside_a_worker() -> None:
    done = output_of("""
        from dremioframe.orchestration import NestedRunError, Pipeline, Task
        def inner():
            try:
                Pipeline("inner").add_task(Task("t", int)).run()
            except NestedRunError as error:
                return str(error)
        print(Pipeline("outer").add_task(Task("t", inner)).run(executor="process")["t"])
    """)
    assert done.stdout.startswith("pipeline 'inner': run() was called in a worker process"), done.stderr


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the module that makes them has no name to rely on")
def test_a16_in_a_sub_interpreter() -> None:
    done = output_of("""
        import _xxsubinterpreters
        _xxsubinterpreters.run_string(_xxsubinterpreters.create(isolated=False), '''if True:
            from dremioframe.orchestration import OrchestrationError, Pipeline, Task
            for executor in ("inline", "thread", "process"):
                try:
                    Pipeline("p").add_task(Task("t", int)).run(executor=executor)
                except OrchestrationError as error:
                    print("refused:", error, flush=True)
        ''')
    """)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert all("cannot run in a sub-interpreter" in line for line in lines)
