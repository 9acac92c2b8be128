"""Code of a script's `__main__` over several runs and on its way back: which class is which of another process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    RunScript = Callable[..., str]


def test_changed_class_state_arrives_with_the_next_run(run_script: RunScript) -> None:
    run_script("""
        class Settings:
            level = 1

        def level_of(settings):
            return type(settings).level, id(type(settings))

        def level():
            return Settings.level, id(Settings)

        with Worker() as worker:
            first = worker(level_of, Settings())
            assert first[0] == 1 and worker(level) == first
            Settings.level = 2
            assert worker(level_of, Settings()) == first           # one run sees one state
            worker.begin_run()
            assert worker(level_of, Settings()) == (2, first[1])   # the next sees the new one, on the same class
            assert worker(level) == (2, first[1])
            Settings.level = 3
            worker.begin_run()
            assert worker(level) == (3, first[1])                  # by the blob of the function, too
            assert Settings.level == 3
    """)


def test_each_token_is_fetched_once_a_run(run_script: RunScript) -> None:
    run_script("""
        import operator

        class Point:
            x = 1

        with Worker() as worker:
            for _ in range(5):
                assert worker(operator.attrgetter("x"), Point()) == 1
            assert len(worker.fetched) == 1
            worker.begin_run()
            assert worker(operator.attrgetter("x"), Point()) == 1
            assert len(worker.fetched) == 2
    """)


def test_class_made_in_a_worker(run_script: RunScript) -> None:
    run_script("""
        def make():
            class Local:
                count = 0
                def who(self):
                    return type(self).__name__, helper()
            return Local()

        def helper():
            return "helped"

        def again(local):
            type(local)().who()
            return local, type(local)

        with Worker() as one, Worker() as two:
            raw = one.raw(make)
            first = codec.decode(raw, private=False)
            assert first.who() == ("Local", "helped")
            local, kind = codec.decode(two.raw(again, raw), private=False)
            assert type(first) is type(local) is kind          # all agree on one class
            assert type(two(lambda x: x, first)) is type(first)
            assert type(one(lambda x: x, first)) is type(first)
    """)


def test_two_versions_of_a_class_made_in_a_worker(run_script: RunScript) -> None:
    run_script("""
        def make():
            class Model:
                threshold = 0
                rows = []
                default = None
                def predict(self, x):
                    return x > type(self).threshold
            Model.default = Model()
            return Model

        def tune(model):
            model.threshold = 5
            return model, model.default

        def append(model):
            model.rows.append(1)
            return model

        def patch(model):
            model.predict = lambda self, x: "patched"
            return model

        def look(*models):
            return [(model.threshold, model.rows, model().predict(3)) for model in models], models

        def same(model):
            return isinstance(model.default, model), model

        old, new = (0, [], True), (5, [], False)
        with Worker() as one, Worker() as two:
            made = one.raw(make)
            tuned = two.raw(lambda model: tune(model)[0], made)
            for worker in (one, two):
                got, models = codec.decode(worker.raw(look, made, tuned), private=False)
                assert got == [old, new], got
                got, (kind, other) = codec.decode(worker.raw(look, tuned, made), private=False)
                assert got == [new, old] and models == (other, kind)
                for change, state in ((append, (0, [1], True)), (patch, (0, [], "patched"))):
                    changed = worker.raw(change, made)
                    assert codec.decode(worker.raw(look, made, changed), private=False)[0] == [old, state]
            assert models == (codec.decode(made, private=False), codec.decode(tuned, private=False))
            # sent on as it came, whoever sends it
            assert codec.decode(two.raw(same, one.raw(lambda model: model, tuned)), private=False) == (True, models[1])
            assert all(worker(lambda model: same(model), models[0]) == (True, models[0]) for worker in (one, two))
    """)


def test_recursive_and_stateful_code_made_in_a_worker(run_script: RunScript) -> None:
    run_script("""
        limit = 3

        def make():
            def countdown(n):
                return [n, limit] if n == 0 else countdown(n - 1)
            return countdown

        with Worker() as worker:
            countdown = worker(make)
            assert countdown(5) == [0, 3]
            assert countdown.__globals__ is not globals()      # nothing it does to globals reaches the script
    """)


def test_a_class_that_was_let_go_says_so(run_script: RunScript) -> None:
    run_script("""
        import gc

        def scope():
            class Gone:
                pass
            return Gone

        with Worker() as worker:
            kept = {}
            Gone = scope()
            raw = worker.raw(lambda: Gone())
            del Gone
            gc.collect()
            try:
                codec.decode(raw, private=False)
            except codec.DecodeError as error:
                assert "no longer exists" in error.reason
            else:
                raise AssertionError

            Gone = scope()
            blob = references.pack_code(lambda: Gone(), kept)
            assert Gone in kept.values()                # whoever keeps the pins can always decode
    """)


def test_redefined_between_runs(run_script: RunScript) -> None:
    run_script("""
        def work():
            return Model().answer()

        class Model:
            def answer(self):
                return 1

        with Worker() as worker:
            assert worker(work) == 1
            worker.begin_run()

            class Model:
                def answer(self):
                    return 2

            assert worker(work) == 2
            assert type(worker(lambda: Model())) is Model
    """)
