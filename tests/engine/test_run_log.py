"""What a run says: to whom, and how much of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import traceback

import pytest
from loguru import logger

from dremioframe.orchestration import Pipeline, ProcessExecutor, SkipTask, Task, WorkerStartError
from dremioframe.orchestration.testing import SimulatedExecutor, fail, succeed


def messages(pipeline, **options):
    said = []
    sink = logger.add(lambda message: said.append(message.record), level="DEBUG")
    try:
        pipeline.run(**options)
    finally:
        logger.remove(sink)
    return said


def test_levels_and_binding():
    def skip():
        raise SkipTask("nothing today")

    tasks = [Task("flaky", lambda: 1, retries=1), Task("bad", lambda: 1), Task("below", lambda: 1), Task("skip", skip)]
    tasks[1].set_downstream(tasks[2])
    pipeline = Pipeline("p")
    for task in tasks:
        pipeline.add_task(task)
    script = {"flaky": [fail(), succeed()], "bad": fail(ValueError("no {braces} harm"))}
    said = messages(pipeline, executor=SimulatedExecutor(workers=4, script=script))
    told = {(record["level"].name, record["extra"].get("task")) for record in said}
    assert told == {
        ("INFO", None),
        ("WARNING", None),
        ("WARNING", "flaky"),
        ("ERROR", "bad"),
        ("WARNING", "below"),
        ("INFO", "skip"),
    }
    texts = "\n".join(record["message"] for record in said)
    assert "no {braces} harm" in texts
    assert "'below' SKIPPED: upstream 'bad' FAILED" in texts
    assert "nothing today" in texts
    assert all(record["extra"]["pipeline"] == "p" for record in said)


def test_where_a_task_failed_is_told_once():
    def load():
        raise ValueError("bad row")

    pipeline = Pipeline("p").add_task(Task("load", load))
    (failed,) = [record for record in messages(pipeline, executor="process") if record["level"].name == "ERROR"]
    assert failed["message"].count("in load") == 1
    assert "".join(traceback.format_exception(pipeline.last_run.failures["load"])).count("in load") == 1


def test_a_run_that_cannot_go_on_says_that_it_ended():
    def broken():
        raise RuntimeError("no licence")

    pipeline = Pipeline("p").add_task(Task("t", int))
    said = []
    sink = logger.add(lambda message: said.append(message.record["message"]), level="DEBUG")
    try:
        with ProcessExecutor(max_workers=1, initializer=broken) as executor, pytest.raises(WorkerStartError):
            pipeline.run(executor=executor)
    finally:
        logger.remove(sink)
    assert "pipeline 'p': run started" in said[0]
    assert "pipeline 'p': run ended CANCELLED" in said[-1]


def test_a_timeout_shows_the_users_frames_only():
    pipeline = Pipeline("p").add_task(Task("slow", time.sleep, (30,), timeout=1.0))
    (failed,) = [record for record in messages(pipeline, executor="process") if record["level"].name == "ERROR"]
    assert "ran longer than its timeout" in failed["message"]
    assert "dremioframe" not in failed["message"]


def reads_what_is_not_there(context):
    return context["bad"]


@pytest.fixture
def lines_of_failure():
    heard = []
    number = logger.add(heard.append, format="{message}")
    bad, reader = Task("bad", lambda: 1 / 0), Task("reader", reads_what_is_not_there, trigger_rule="all_done")
    bad.set_downstream(reader)
    try:
        Pipeline("p").add_task(bad).add_task(reader).run(executor="inline")
    finally:
        logger.remove(number)
    [told] = [str(each) for each in heard if str(each).startswith("task 'reader' FAILED")]
    return told.splitlines()[1:]


def test_an_error_that_the_engine_raised_shows_no_line_of_the_engine(lines_of_failure):
    """Neither where its frames were, nor their code, nor the marks below that."""
    shown = lines_of_failure
    assert any("in reads_what_is_not_there" in line for line in shown)
    assert any('return context["bad"]' in line for line in shown)
    assert shown[-1].startswith("KeyError: ")
    assert not [line for line in shown if "self." in line or "dremioframe" in line or "raise " in line]


def test_the_sink_loguru_makes_for_itself_follows_stderr():
    code = """
import contextlib, io
from dremioframe.orchestration import Pipeline, Task
pipeline = Pipeline("p").add_task(Task("bad", lambda: 1 / 0))
caught = io.StringIO()
with contextlib.redirect_stderr(caught):
    pipeline.run()
assert "ZeroDivisionError" in caught.getvalue()
pipeline.run()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Traceback") == 1
    assert "ZeroDivisionError" in done.stderr


def test_a_sink_that_raises_does_not_end_the_run(capsys):
    def sink(message):
        raise OSError("sink is broken")

    handler = logger.add(sink, catch=False)
    try:
        run = Pipeline("p").add_task(Task("t", lambda: 1)).run()
    finally:
        logger.remove(handler)
    assert run["t"] == 1
    assert "sink is broken" in capsys.readouterr().err


RUN = """
{first}
from dremioframe.orchestration import Pipeline, Task
def fail():
    raise ValueError("{{no}} <red>harm</red>")
Pipeline("p").add_task(Task("bad", fail)).run()
import sys
sys.stdout.write(str("loguru" in sys.modules))
"""


def environment(**more):
    """Ours without what loguru looks at: the suite itself may run in CI, where loguru shows colours."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "PYCHARM", "LOGURU"))}
    return {**bare, **more}


def lines(first="", **env):
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(first=first)],
        env=environment(**env), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    text = re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ", "<time> ", done.stderr, flags=re.MULTILINE)
    return re.sub(r"after \d+\.\d{3} s", "after <n> s", text), done.stdout == "True"


def test_what_is_written_without_loguru_is_what_loguru_writes():
    plain, plain_has_loguru = lines()
    real, _ = lines("import loguru")
    assert not plain_has_loguru
    assert plain == real
    assert plain.count("<time>") == 3
    assert "{no} <red>harm</red>" in plain


@pytest.mark.parametrize("stderr", ["/dev/full", "closed"])
@pytest.mark.parametrize("first", ["", "import loguru"])
def test_standard_error_that_cannot_be_written_to_ends_no_run(stderr, first):
    redirection = "2>&-" if stderr == "closed" else f"2>{stderr}"
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-c", RUN.format(first=first)],
        env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == str(bool(first) or stderr == "closed")


def test_loguru_itself_writes_where_the_environment_sets_it_up():
    said, has_loguru = lines(LOGURU_LEVEL="ERROR", LOGURU_FORMAT="{level}")
    assert has_loguru
    assert said == "ERROR\n"


@pytest.mark.parametrize("variables", [{"CI": "true", "GITHUB_ACTIONS": "true"}, {"PYCHARM_HOSTED": "1"}])
def test_loguru_itself_writes_where_colours_are_shown_without_a_terminal(variables):
    assert lines(**variables)[1]


def test_loguru_itself_writes_to_a_terminal():
    code = "class Terminal:\n write = sys.__stderr__.write; flush = sys.__stderr__.flush; isatty = lambda self: True\n"
    said, has_loguru = lines(f"import sys\n{code}sys.stderr = Terminal()")
    assert has_loguru
    assert "\x1b[" in said
