"""What an initializer sets in the script's globals and classes, over several runs of real worker processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    RunScript = Callable[..., str]

START = """
    from dremioframe.orchestration import Pipeline, ProcessExecutor, Task

    def read(executor, *actions, **options):
        pipeline = Pipeline("p", max_workers=1)
        for number, action in enumerate(actions):
            pipeline.add_task(Task(f"t{number}", action, **options))
        run = pipeline.run(executor=executor)
        run.raise_for_failure()
        return [*run.values()]
"""

KINDS = {
    "global": ("CONN = None", "global CONN; CONN = 'db'", "CONN", "'db'"),
    "not declared": ("", "globals()['CONN'] = 'db'", "CONN", "'db'"),
    "entry": ("REG = {}", "REG['model'] = 'm'", "REG", "{'model': 'm'}"),
    "deep entry": ("REG = {'a': [1]}", "REG['a'].append(2)", "REG", "{'a': [1, 2]}"),
    "list": ("ROWS = []", "ROWS.append(1)", "ROWS", "[1]"),
    "what cannot be pickled": ("REG = {}", "import threading; REG['lock'] = threading.Lock()", "[*REG]", "['lock']"),
    "nan": ("RATE = float('nan')", "global RATE; RATE = 1.5", "RATE", "1.5"),
    "class": ("class C: url = None", "C.url = 'db'", "C.url", "'db'"),
    "container of a class": ("class C: rows = []", "C.rows.append(1)", "C.rows", "[1]"),
    "new attribute": ("class C: pass", "C.url = 'db'", "C.url", "'db'"),
    "instance": ("class C: url = None\n    c = C()", "c.url = 'db'", "c.url", "'db'"),
    "function": ("def f(): return f.url", "f.url = 'db'", "f()", "'db'"),
    "enum": ("import enum\n    class E(enum.Enum): A = 1", "E.A.label = 'x'; E.url = 'db'", "E.url", "'db'"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_p15_what_an_initializer_sets_stays(run_script: RunScript, kind: str) -> None:
    declared, setting, expression, expected = KINDS[kind]
    run_script(f"""{START}
    {declared}
    def setup():
        {setting}
    def one(): return {expression}
    def other(): return one(), {expression}
    with ProcessExecutor(max_workers=1, initializer=setup) as executor:
        for _ in range(3):
            got = read(executor, one, other, lambda: {expression})
            assert got == [{expected}, ({expected}, {expected}), {expected}], got
    """)


def test_p15_what_the_script_changes_afterwards_arrives(run_script: RunScript) -> None:
    run_script(f"""{START}
    A = B = None
    LEVEL = 1
    class Settings:
        url = None
        level = 1
    def helper():
        return "old"
    def setup():
        global A, B
        A, B, Settings.url = helper(), LEVEL, Settings.level

    def task():
        return A, B, LEVEL, Settings.url, Settings.level, helper()

    with ProcessExecutor(max_workers=1, initializer=setup) as executor:
        assert read(executor, task) == [("old", 1, 1, 1, 1, "old")]
        LEVEL = Settings.level = 2                      # used by the initializer, not set
        def helper():
            return "new"
        assert read(executor, task) == [("old", 1, 2, 1, 2, "new")]
        A, Settings.url = "own", "own"                  # set by both
        assert read(executor, task) == [("own", 1, 2, "own", 2, "new")]
        class Settings:
            url = level = 3
        assert read(executor, task) == [("own", 1, 2, 3, 3, "new")]
    """)


def test_p15_every_worker_has_what_its_own_initializer_has_set(run_script: RunScript) -> None:
    run_script(f"""{START}
    import os
    PID = None
    def setup():
        global PID
        PID = os.getpid()
    def is_mine():
        return PID == os.getpid()
    with ProcessExecutor(max_workers=2, initializer=setup, max_tasks_per_worker=2) as executor:
        for _ in range(2):
            assert all(read(executor, *[is_mine] * 6))
    """)


def test_what_an_initializer_leaves_running_has_its_globals(run_script: RunScript) -> None:
    run_script(f"""{START}
    import logging
    FORMAT = "<%s>"
    LINES = []
    class Handler(logging.Handler):
        def emit(self, record):
            LINES.append(FORMAT % record.getMessage())
    def setup():
        logging.getLogger("x").addHandler(Handler())
    def warn():
        logging.getLogger("x").warning("hot")
    def lines():
        warn()
        return LINES
    with ProcessExecutor(max_workers=1, initializer=setup) as executor:
        read(executor, warn)
        assert read(executor, lines) == [["<hot>"]]
    """)
