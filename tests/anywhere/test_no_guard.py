"""The same unguarded script runs wherever Python runs code: file, -c, stdin, -m, notebook kernel, pytest."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import zipapp

import pytest

SCRIPT = """
import functools
import sys
from loguru import logger
from dremioframe.orchestration import Pipeline, Task, task
import beside
from package import inner

EXECUTOR = "{executor}"
logger.remove()
logger.add("run.log", format="{{message}}")
bound = logger.bind(part="etl")

class Row:
    counter = 0
    config = {{"unit": "km"}}

    def __init__(self, value):
        self.value = value

    def double(self):
        Row.counter += 1
        CALLS.append(self.value)
        return Row(self.value * 2)

class Wide(Row):
    def double(self):
        return super().double()

CALLS = []
config_before = Row.config
offset = 40

@task
def extract():
    logger.info("extracting")
    bound.debug("bound")
    return [Row(1), Wide(2)]

@task
def transform(context=None):
    return [row.double() for row in context["extract"]]

def closure_over(value):
    def add(context):
        return value + offset
    return add

t_extract, t_transform = extract(), transform()
t_lambda = Task("lambda", lambda context: [row.value for row in context["transform"]])
t_closure = Task("closure", closure_over(2))
t_partial = Task("partial", functools.partial(beside.plain, 3))
t_decorated = beside.decorated(5)
t_wrapped = Task("wrapped", inner.wrapped)
t_method = Task("method", Row(8).double)
t_extract.set_downstream(t_transform).set_downstream(t_lambda)

pipeline = Pipeline("everywhere", max_workers=2)
for each in (t_extract, t_transform, t_lambda, t_closure, t_partial, t_decorated, t_wrapped, t_method):
    pipeline.add_task(each)
run = pipeline.run(executor=EXECUTOR)
run.raise_for_failure()
rows = run["transform"]
assert [type(row) for row in rows] == [Row, Row] and isinstance(run["extract"][1], Wide)
assert [row.value for row in rows] == run["lambda"] == [2, 4]
assert isinstance(run["method"], Row) and run["method"].value == 16
assert (run["closure"], run["partial"], run["decorated"], run["wrapped"]) == (42, 30, 50, "wrapped inner")
assert Row.config is config_before
if EXECUTOR == "process":
    assert (Row.counter, CALLS) == (0, []), (Row.counter, CALLS)
print("all is well")
"""

BESIDE = """
from dremioframe.orchestration import task

def plain(value):
    return value * 10

@task
def decorated(value):
    return plain(value)
"""

INNER = """
import functools

def decorate(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return "wrapped " + function(*args, **kwargs)
    return wrapper

@decorate
def wrapped():
    return "inner"
"""


@pytest.fixture(params=["inline", "thread", "process"])
def folder(request, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.format(executor=request.param))
    (tmp_path / "beside.py").write_text(BESIDE)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "inner.py").write_text(INNER)
    return tmp_path


def check(folder, *command, stdin=None):
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "all is well", done.stdout + done.stderr


def test_a10_as_a_file(folder):
    check(folder, "script.py")


def test_as_a_file_from_elsewhere(folder, tmp_path_factory):
    done = subprocess.run(
        [sys.executable, folder / "script.py"],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a10_as_a_command(folder):
    check(folder, "-c", (folder / "script.py").read_text())


def test_a10_from_stdin(folder):
    check(folder, "-", stdin=(folder / "script.py").read_text())


def test_a10_at_the_prompt(folder):
    lines = [
        "from dremioframe.orchestration import Pipeline, Task",
        "class Row: pass",
        "",
        "run = Pipeline('p').add_task(Task('t', lambda: Row())).run(executor='process')",
        "assert type(run['t']) is Row",
        "print('all is well')",
    ]
    check(folder, "-i", "-q", stdin="\n".join([*lines, ""]))


def test_a10_as_a_zip_application(folder, tmp_path_factory):
    (folder / "script.py").rename(folder / "__main__.py")
    application = tmp_path_factory.mktemp("zipped") / "application.pyz"
    zipapp.create_archive(folder, application)
    check(application.parent, str(application))


def test_as_a_module(folder):
    check(folder, "-m", "script")


def test_a7_under_pytest(folder):
    definitions, use = (folder / "script.py").read_text().split("pipeline = ")
    text = f"{definitions}\n\ndef test_it():\n" + textwrap.indent("pipeline = " + use, "    ")
    (folder / "test_script.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "test_script.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a10_in_a_notebook_kernel(folder):
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", cwd=str(folder), startup_timeout=60)
    try:
        printed = []

        def listen(message):
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        text = (folder / "script.py").read_text()
        reply = client.execute_interactive(text, timeout=60, output_hook=listen, allow_stdin=False)
        assert reply["content"]["status"] == "ok", "\n".join(reply["content"].get("traceback", []))
        assert "all is well" in "".join(printed)
        # A class redefined in a later cell is another class; its instances come back as the new one.
        again = """
class Row:
    tag = 'new'
run = Pipeline('again').add_task(Task('t', lambda: Row())).run(executor=EXECUTOR)"""
        reply = client.execute_interactive(
            again + "\nassert type(run['t']) is Row and run['t'].tag == 'new'", timeout=60, allow_stdin=False
        )
        assert reply["content"]["status"] == "ok", "\n".join(reply["content"].get("traceback", []))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


RUNS_AT_IMPORT = """
from dremioframe.orchestration import Pipeline, task

@task
def work():
    return 1

run = Pipeline("at import").add_task(work()).run(executor="process")
if run.failures:
    print(*run.failures.values())
"""


def test_a_module_that_runs_at_import_is_told_to_move_the_call(tmp_path):
    (tmp_path / "eager.py").write_text(RUNS_AT_IMPORT)
    done = subprocess.run(
        [sys.executable, "-c", "import eager"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "move" in done.stdout
    assert "import" in done.stdout
