"""A worker that has seen other runs: it works on the script as it is, not on what was there before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    RunScript = Callable[..., str]

START = """
    from dremioframe.orchestration import Pipeline, ProcessExecutor, Task

    def read(executor, action, *args):
        run = Pipeline("p").add_task(Task("t", action, args=args)).run(executor=executor)
        run.raise_for_failure()
        return run["t"]
"""

#: What the script has at first, what it does then, and what a task reads before and after.
CHANGES = {
    "global": ("RATE = 1", "del RATE", "RATE if 'RATE' in globals() else None", "1", "None"),
    "shadowed builtin": ("def sum(x): return -1", "del sum", "sum([1, 2])", "-1", "3"),
    "class attribute": ("class B: x = 2\nclass C(B): x = 1", "del C.x", "C.x", "1", "2"),
    "special method": ("class C:\n    def __len__(self): return 0", "del C.__len__", "bool(C())", "False", "True"),
    "property": ("class C:\n    @property\n    def x(self): return 1", "del C.x", "hasattr(C, 'x')", "True", "False"),
    "slots": (
        "class C:\n    __slots__ = ('a',)\n    x = 1",
        "del C.x",
        "(hasattr(C, 'x'), hasattr(C, 'a'))",
        "(True, True)",
        "(False, True)",
    ),
    "enum": (
        "import enum\nclass E(enum.Enum):\n    A = 1\nE.x = 1",
        "del E.x",
        "(hasattr(E, 'x'), E(1).name)",
        "(True, 'A')",
        "(False, 'A')",
    ),
    "abstract": (
        "import abc\nclass C(abc.ABC):\n    x = 1\n    @abc.abstractmethod\n    def f(self): ...",
        "del C.x",
        "(hasattr(C, 'x'), C.__abstractmethods__)",
        "(True, {'f'})",
        "(False, {'f'})",
    ),
    "closed metaclass": (
        "class M(type):\n    def __delattr__(cls, name): raise TypeError(name)\nclass C(metaclass=M): x = 1",
        "type.__delattr__(C, 'x')",
        "hasattr(C, 'x')",
        "True",
        "False",
    ),
    "dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass C:\n    a: int = 0\n    x = 1",
        "del C.x",
        "(hasattr(C, 'x'), C(2), C.__annotations__)",
        "(True, C(2), {'a': int})",
        "(False, C(2), {'a': int})",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_p15_what_the_script_has_deleted_is_gone(run_script: RunScript, kind: str) -> None:
    declared, change, expression, before, after = CHANGES[kind]
    declared = declared.replace("\n", "\n    ")
    run_script(f"""{START}
    {declared}
    def look():
        return {expression}
    with ProcessExecutor(max_workers=1) as executor:
        assert read(executor, look) == {before}
        {change}
        for _ in range(2):
            got = read(executor, look)
            assert got == {after} == look(), got
    """)


def test_p15_what_a_task_sets_is_gone_in_the_next_run(run_script: RunScript) -> None:
    run_script(f"""{START}
    class Settings:
        pass

    def first(day):
        global seen
        seen = globals().get("seen", day)
        Settings.day = getattr(Settings, "day", day)
        return seen, Settings.day

    with ProcessExecutor(max_workers=1) as executor:
        assert read(executor, first, "mon") == ("mon", "mon")
        assert read(executor, first, "tue") == ("tue", "tue")
    """)


def test_namespaces_do_not_grow(run_script: RunScript) -> None:
    run_script(f"""{START}
    def names():
        return len(globals())

    with ProcessExecutor(max_workers=1) as executor:
        before = read(executor, names)
        for number in range(5):
            exec(f"x{{number}} = object\\ndef use(): return x{{number}}")
            assert read(executor, use) is object
            del globals()[f"x{{number}}"]
        del use
        assert read(executor, names) == before
    """)


def test_destructors_of_globals_have_what_they_need(run_script: RunScript) -> None:
    run_script(f"""{START}
    import os

    def say(text):
        with open(PATH, "a") as file:
            file.write(text)

    PATH = os.path.abspath("said")

    class Pool:
        path = PATH
        def __del__(self):
            os.stat(self.path)
            help_closing(self.path)

    def help_closing(path):
        with open(path, "a") as file:
            file.write("closed;")

    pool = Pool()

    def use():
        assert pool
        say("used;")

    with ProcessExecutor(max_workers=1) as executor:
        read(executor, use)
        read(executor, len, "")
        with open(PATH) as file:
            assert file.read() == "used;closed;"
    del pool  # here the end of the interpreter takes os away first
    """)


def test_what_a_task_has_left_in_a_library_finds_its_modules(run_script: RunScript) -> None:
    run_script(f"""{START}
    import io, logging

    class Handler(logging.Handler):
        def emit(self, record):
            io.StringIO()
            record.msg = "handled"

    def leave():
        logging.getLogger("x").addHandler(Handler())

    def use():
        return logging.getLogger("x").makeRecord("x", 50, "", 0, "text", (), None)

    def look():
        record = use()
        logging.getLogger("x").handle(record)
        return record.msg

    with ProcessExecutor(max_workers=1) as executor:
        read(executor, leave)
        assert read(executor, look) == "handled"
    """)
