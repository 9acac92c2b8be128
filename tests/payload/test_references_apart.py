"""Runs and errors pickled for anybody: what two programs call by one name stays two things, wherever it is read."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    RunScript = Callable[..., str]

#: A program that pickles its run; its globals and classes depend on what it is told.
OTHER = """
import pickle, sys
from pathlib import Path
from dremioframe.orchestration import Pipeline, Task

rate = int(sys.argv[1])

class Money:
    unit = f"unit {rate}"
    def show(self):
        return rate, self.unit

class Over(Exception):
    def show(self):
        return rate, Money.unit

def price(x):
    return x * rate

def stateful():
    seen = []
    def see(x):
        seen.append(x * rate)
        return list(seen)
    return see

def fail():
    raise Over("x")

pipeline = Pipeline("p", max_workers=1)
for name, action in {"money": Money, "price": lambda: price, "see": stateful, "fail": fail}.items():
    pipeline.add_task(Task(name, action))
run = pipeline.run(executor=sys.argv[2])
Path(sys.argv[3]).write_bytes(pickle.dumps(run))
Path(sys.argv[3] + ".error").write_bytes(pickle.dumps(run.failures["fail"]))
"""

READ = """
    import pickle, sys
    from pathlib import Path
    from dremioframe.orchestration import Pipeline, Task

    rate = 5

    class Money:
        unit = "own"
        def show(self):
            return rate, self.unit

    def price(x):
        return x * rate

    def load(n):
        run, error = (pickle.loads(Path(name).read_bytes()) for name in (f"{n}", f"{n}.error"))
        see = run["see"]
        assert isinstance(run["money"], type(run["money"])) and not isinstance(run["money"], Money)
        return (
            run["money"].show(), run["price"](10), (see(1), see(1))[1], run.failures["fail"].__cause__.show(),
            error.__cause__.show(),
        )

    def told(n):
        return (n, f"unit {n}"), 10 * n, [n, n], (n, f"unit {n}"), (n, f"unit {n}")

    def own():
        return Money().show(), price(10)
"""


@pytest.fixture
def other_programs(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(OTHER)
    for number, executor in ((1, "process"), (2, "inline")):
        command = [sys.executable, tmp_path / "other.py", str(number), executor, tmp_path / str(number)]
        subprocess.run(command, check=True, timeout=100)


@pytest.mark.usefixtures("other_programs")
def test_p15_two_programs_pickles_in_a_third(run_script: RunScript) -> None:
    run_script(f"""{READ}
    assert load(1) == told(1) and load(2) == told(2) and load(1) == told(1)
    assert own() == ((5, "own"), 50)
    one, two = (pickle.loads(Path(name).read_bytes())["money"] for name in "12")
    assert type(one) is not type(two)
    """)


@pytest.mark.usefixtures("other_programs")
@pytest.mark.parametrize("order", ["load, own", "own, load"])
def test_p15_two_programs_pickles_in_tasks(run_script: RunScript, order: str) -> None:
    run_script(f"""{READ}
    def load_both():
        return load(1), load(2)
    load, read = load, load_both
    tasks = {{"load": load_both, "own": own}}
    pipeline = Pipeline("p", max_workers=1)
    for name in "{order}".split(", "):
        pipeline.add_task(Task(name, tasks[name]))
    pipeline.add_task(Task("own again", own))
    run = pipeline.run(executor="process")
    run.raise_for_failure()
    assert run["load"] == (told(1), told(2)), run["load"]
    assert run["own"] == run["own again"] == ((5, "own"), 50)
    assert own() == ((5, "own"), 50)
    """)


def test_p15_a_programs_own_pickles_are_of_its_own_classes_everywhere(run_script: RunScript) -> None:
    run_script("""
        import pickle
        from dremioframe.orchestration import Pipeline, Task

        class Money:
            pass

        class Over(Exception):
            pass

        def fail():
            raise Over("x")

        def add():
            Over.count = 1
            return Money()

        def check(context):
            run, error = context["run"], pickle.loads(context["error"])
            return type(run["add"]) is Money, type(error.__cause__) is Over, pickle.dumps(run), pickle.dumps(error)

        pipeline = Pipeline("p", max_workers=1).add_task(Task("add", add)).add_task(Task("fail", fail))
        run = pipeline.run(executor="process")
        copy = pickle.loads(pickle.dumps(run))
        assert type(copy["add"]) is Money and type(copy.failures["fail"].__cause__) is Over

        pipeline = Pipeline("q").add_task(Task("check", check))
        same, too, again, error = pipeline.run(
            executor="process", context={"run": run, "error": pickle.dumps(run.failures["fail"])}
        )["check"]
        assert same and too
        assert type(pickle.loads(again)["add"]) is Money and type(pickle.loads(error).__cause__) is Over
    """)


def test_p15_states_of_a_class_at_two_moments(run_script: RunScript, tmp_path: Path) -> None:
    run_script("""
        import pickle
        from pathlib import Path
        from dremioframe.orchestration import Pipeline, Task

        class Model:
            version = 1

        pipeline = Pipeline("p").add_task(Task("m", lambda: Model)).add_task(Task("i", lambda: Model()))
        run = pipeline.run(executor="process")
        Path("one").write_bytes(pickle.dumps(run))
        Model.version = 2
        Path("two").write_bytes(pickle.dumps(pipeline.run(executor="process")))
        assert pickle.loads(Path("one").read_bytes())["m"] is Model
    """)
    run_script("""
        import gc, pickle
        from pathlib import Path
        from dremioframe.orchestration.payload import namespaces, tokens

        def read():
            one, two = (pickle.loads(Path(name).read_bytes()) for name in ("one", "two"))
            assert (one["m"].version, two["m"].version) == (1, 2)
            assert type(one["i"]) is one["m"] is pickle.loads(Path("one").read_bytes())["m"] is not two["m"]
            assert type(pickle.loads(pickle.dumps(two))["i"]) is two["m"]

        read()
        gc.collect()
        before = len(tokens._token_of), len(tokens._object_of), len(namespaces._namespaces)
        for _ in range(3):
            read()
        gc.collect()
        assert (len(tokens._token_of), len(tokens._object_of), len(namespaces._namespaces)) == before
    """)
