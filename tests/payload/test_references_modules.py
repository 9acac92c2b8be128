"""Code of modules, between two real processes: by name where a worker would import the same file, else by value."""

from __future__ import annotations

import functools
import importlib
import os
import pickle
import sys
import threading
import types
from typing import TYPE_CHECKING, Any

import pytest

from dremioframe.orchestration.payload import codec, importable, references

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    RunScript = Callable[..., str]

BESIDE = """
    import functools, threading
    from dremioframe.orchestration.payload import importable

    lock = threading.Lock()      # cannot be pickled, and must not have to be
    calls = 0

    class Factory:
        def __init__(self, fn):
            self.fn = self.__wrapped__ = fn
            self.__name__ = fn.__name__
        def __call__(self):
            raise AssertionError("the plain function was asked for")

    def logged(fn):
        @functools.wraps(fn)
        def wrapper(*args):
            return ["logged", fn(*args)]
        return wrapper

    def bare(fn):
        def inner(*args):
            with lock:
                return ["bare", fn(*args)]
        return inner

    @Factory
    def task(x):
        return ["task", x]

    @logged
    def wrapped(x):
        return x

    @Factory
    @logged
    def both(x):
        return x

    @bare
    def opaque(x):
        return x

    def closure(n):
        def inner(x):
            global calls
            calls += 1
            with lock:
                return x + n, calls, counted()
        return inner

    def counted():
        return calls

    short = lambda x: (x, lock.locked())

    @functools.lru_cache
    def cached(x):
        return x * 2

    class Outer:
        class Inner:
            value = 1
            @classmethod
            def build(cls):
                return cls()
        @logged
        def method(self, x):
            return x

    def local_class():
        class Local:
            def read(self):
                return counted()
        return Local
"""

USE = """
    from {name} import *
    import {name} as module

    with Worker() as worker:
        blob = references.pack_code(task.fn)
        assert len(blob) < 150, len(blob)                       # a name, not the module's contents
        assert worker(task.fn, 1) == ["task", 1]
        assert worker(wrapped, 1) == ["logged", 1]
        assert worker(wrapped.__wrapped__, 1) == 1
        assert worker(both.fn, 1) == ["logged", 1]
        assert worker(both.fn.__wrapped__, 1) == 1
        assert worker(opaque, 1) == ["bare", 1]
        assert worker(short, 1) == (1, False)
        assert worker(cached, 4) == 8
        assert worker(functools.partial(closure(5), 1)) == (6, 1, 1)    # the module's own globals, in the worker
        assert worker(counted) == 1 and module.calls == 0
        assert worker(lambda f: f(3), closure(5))[0] == 8
        assert type(worker(Outer.Inner.build)) is Outer.Inner
        assert worker(Outer().method, 2) == ["logged", 2]
        assert worker(lambda: wrapped) is wrapped
        Local = local_class()
        assert type(worker(lambda x: x, Local())) is Local
        made = worker(local_class)
        assert made().read() == 0                                       # back home: home's own globals
"""


@pytest.mark.parametrize("name", ["beside", "package.module"])
def test_decorated_functions_of_modules(run_script: RunScript, name: str) -> None:
    modules = {name.replace(".", "__"): BESIDE}
    if "." in name:
        modules["package____init__"] = ""
    run_script(USE.format(name=name), **modules)


BY_HAND = """
    class Thing:
        count = 0
        def __init__(self, x):
            self.x = x

    def work(thing):
        import sys
        Thing.count += 1
        assert "by_hand" not in sys.modules
        return Thing(thing.x + helper())

    def helper():
        return limit

    limit = 10
"""


def test_a_module_that_was_loaded_by_hand_goes_by_value(run_script: RunScript) -> None:
    run_script(
        """
        import importlib.util, sys

        spec = importlib.util.spec_from_file_location("by_hand", "elsewhere/by_hand.py")
        by_hand = importlib.util.module_from_spec(spec)
        sys.modules["by_hand"] = by_hand
        spec.loader.exec_module(by_hand)

        with Worker() as worker:
            result = worker(by_hand.work, by_hand.Thing(1))
            assert type(result) is by_hand.Thing and result.x == 11 and by_hand.Thing.count == 0
            assert worker(lambda: by_hand.helper()) == 10        # the module itself, named by a global
        """,
        elsewhere__by_hand=BY_HAND,
    )


def test_a_module_that_was_loaded_by_hand_and_its_functions_see_the_same_globals(run_script: RunScript) -> None:
    run_script(
        """
        import importlib.util, sys

        spec = importlib.util.spec_from_file_location("by_hand", "elsewhere/by_hand.py")
        by_hand = importlib.util.module_from_spec(spec)
        sys.modules["by_hand"] = by_hand
        spec.loader.exec_module(by_hand)

        def work(module=None):
            module = module or by_hand
            module.set_limit(5)
            seen = [module.limit, module.helper(), by_hand.limit]
            module.limit = 7
            return seen, module.helper(), by_hand.helper()

        def limits():
            return by_hand.limit, by_hand.helper()

        with Worker() as worker:
            for args in ((), (by_hand,)):
                assert worker(work, *args) == ([5, 5, 5], 7, 7)
                assert worker(limits) == (7, 7)
                worker.begin_run()
            assert worker(limits) == limits() == (10, 10)
            by_hand.limit = 11
            worker.begin_run()
            assert worker(limits) == (11, 11)
            assert worker(lambda module: module.helper(), by_hand) == 11
        """,
        elsewhere__by_hand=BY_HAND
        + """
    def set_limit(value):
        global limit
        limit = value
        """,
    )


def test_a_shadowed_module_goes_by_value(run_script: RunScript) -> None:
    run_script(
        """
        import sys, os
        os.makedirs("first")
        import twin
        assert twin.which() == "second"
        with open("first/twin.py", "w") as file:
            file.write("def which(): return 'first'")
        sys.path.insert(0, os.path.abspath("first"))
        with Worker() as worker:
            assert worker(twin.which) == "second"
        """,
        twin="def which(): return 'second'",
    )


# --- in this process --------------------------------------------------------------------------------------------------


class Here:
    level = 1

    def __init__(self, x: object = None) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return type(other) is Here and other.x == self.x

    __hash__ = None  # type: ignore[assignment]


def double(here: Here) -> Here:
    Here.level += 1
    return Here(here.x * 2)  # type: ignore[operator]


def test_functions_and_classes_of_a_test_module(worker: Any) -> None:
    assert worker(double, Here(4)) == Here(8)
    assert Here.level == 1
    assert worker(lambda: (Here, double)) == (Here, double)


def test_decoding_at_home_gives_the_originals() -> None:
    value = [Here(1), Here, double, lambda: 1, functools.partial(double)]
    copy = codec.decode(codec.encode(value).to_bytes(), private=False)
    assert copy[0] == value[0]
    assert copy[1:4] == value[1:4]
    assert references.load_code(references.pack_code(double)) is double


def test_builtins_and_compiled_code_go_by_name() -> None:
    for code in (len, dict.fromkeys, type(None), type, int, os.getpid, functools.partial, threading.Lock, type(len)):
        assert codec.decode(codec.encode([code]).to_bytes(), private=False) == [code]
        assert references.load_code(references.pack_code(code)) == code


def test_a_function_without_a_module() -> None:
    scope: dict[str, Any] = {}
    exec("def f(x): return g(x)\ndef g(x): return x + 1\nclass C: pass", scope)
    assert codec.decode(codec.encode(scope["f"]).to_bytes(), private=False) is scope["f"]
    assert codec.decode(codec.encode(scope["C"]).to_bytes(), private=False) is scope["C"]


def test_a_function_without_a_module_in_a_worker(worker: Any) -> None:
    scope: dict[str, Any] = {}
    exec("def f(x): return g(x)\ndef g(x): return x + 1", scope)
    assert worker(scope["f"], 1) == 2


def test_pins_name_what_a_blob_and_a_payload_tell_by_token() -> None:
    class Local:
        pass

    pins: dict[bytes, Any] = {}
    references.pack_code(lambda: Local, pins)
    assert Local in pins.values()
    pins.clear()
    codec.encode([Local()], pins)
    assert list(pins.values()) == [Local]
    (token,) = pins
    assert references.load_code(references.blob_for_token(token)) is Local


def test_unpicklable_code_says_where() -> None:
    lock = threading.Lock()

    def closure() -> object:
        return lock

    for code in (closure, functools.partial(len, lock), Here(lock)):
        with pytest.raises(codec.EncodeError, match=r"cannot pickle '_thread.lock'") as caught:
            references.pack_code(code)
        assert caught.value.path in {"<closure lock>", ".args[0]", ".x"}


def test_verdicts_follow_the_search_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "travelling.py").write_text("def f(): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("travelling")
    try:
        assert importable.is_importable("travelling")
        assert importable.named(module.f) == ("travelling", "f", 0)
        monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(tmp_path)])
        assert not importable.is_importable("travelling")
    finally:
        del sys.modules["travelling"]


def test_odd_modules_are_not_importable() -> None:
    for name in ("__main__", "no.such.module", "os.path.nothing"):
        assert not importable.is_importable(name)
    for name in ("builtins", "sys", "os", "posixpath", "json.decoder", "numpy", "_thread"):
        if name in sys.modules:
            assert importable.is_importable(name)
    made = sys.modules["made_up"] = types.ModuleType("made_up")
    try:
        assert not importable.is_importable("made_up")
        exec("def f(): return 5", made.__dict__)
        assert codec.decode(codec.encode(made.f).to_bytes(), private=False) is made.f
    finally:
        del sys.modules["made_up"]


def test_an_object_that_invents_attributes_is_no_decorated_function() -> None:
    class Liar:
        def __getattr__(self, name: str) -> Any:
            return self

    module = sys.modules["liars"] = types.ModuleType("liars")
    try:
        module.f = Liar()  # type: ignore[attr-defined]

        def f() -> None: ...

        f.__module__, f.__qualname__ = "liars", "f"
        assert importable.named(f) is None
    finally:
        del sys.modules["liars"]


def test_a_class_whose_metaclass_forbids_hashing(worker: Any) -> None:
    class Unhashable(type):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(cls, other: object) -> bool:
            return cls is other

    class Plain(metaclass=Unhashable):
        pass

    # cloudpickle's table of classes would need a hash; neither tokens nor values do.
    assert codec.decode(codec.encode(Plain).to_bytes(), private=False) is Plain
    assert worker(lambda: Plain) is Plain
    assert type(worker(lambda given: given, Plain())) is Plain


def test_a_value_names_code_by_token_and_does_not_contain_it() -> None:
    class Local:
        text = "x" * 1000

    stream = codec.encode([Local, Local()]).to_bytes()
    assert len(stream) < 150
    assert pickle.loads(stream)[0] is Local
