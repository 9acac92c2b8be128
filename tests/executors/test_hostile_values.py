"""P2, P3, P5, P7: values that fight back in the worker cost their own attempt, never the worker."""

from __future__ import annotations

import os
import signal

import pytest

from dremioframe.orchestration import PayloadError, Pipeline, ProcessExecutor, Task, TaskCancelled, TaskTimeoutError


class Hostile(BaseException):
    pass


RAISED = [SystemExit, KeyboardInterrupt, Hostile, TaskCancelled, GeneratorExit, RecursionError]

METHODS = ["__reduce__", "__reduce_ex__", "__getattribute__", "__getstate__"]
HARMLESS = ["__str__", "__repr__", "__hash__", "__eq__", "__bool__", "__len__"]


def hostile_class(place, kind):
    def refuse(*args):
        raise kind(f"from {place}")

    if place.startswith("class "):
        return type("Meta", (type,), {place[6:]: refuse})("Fights", (), {})
    return type("Fights", (), {place: property(refuse) if place in {"__class__", "__dict__"} else refuse})


class FightsBack:
    """Raises ``kind`` where it is unpickled."""

    def __init__(self, kind):
        self.kind = kind

    def __setstate__(self, state):
        raise state["kind"]("from __setstate__")


@pytest.fixture(scope="module")
def one_worker():
    with ProcessExecutor(max_workers=1) as executor:
        Pipeline("warm").add_task(Task("t", os.getpid)).run(executor=executor)
        yield executor


def run_beside_others(executor, bad, **options):
    """Run ``bad`` between two tasks that must have run in the same process."""
    before, after = Task("before", os.getpid), Task("after", os.getpid, trigger_rule="all_done")
    before.set_downstream(bad).set_downstream(after)
    pipeline = Pipeline("p").add_task(before).add_task(bad).add_task(after)
    run = pipeline.run(executor=executor, **options)
    assert run["before"] == run["after"]
    return run


def payload_error(run, stage):
    error = run.failures["bad"]
    assert type(error) is PayloadError
    assert (error.task, error.stage) == ("bad", stage)
    assert len(run.tasks["bad"].attempts) == 1
    return error


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("place", [*METHODS, "__class__", "class __hash__", "class __getattribute__"])
def test_p5_a_result_that_fights_back_when_it_is_pickled(one_worker, place, kind):
    def action():
        return {"rows": [1, hostile_class(place, kind)()]}

    run = run_beside_others(one_worker, Task("bad", action, retries=2, retry_delay=0.0))
    if "bad" in run.failures:  # some of these are never asked for by pickle
        error = payload_error(run, "result_pickle")
        assert (kind.__name__ if kind is not RecursionError else "recursion") in str(error)
        assert error.path == "result['rows'][1]"
    else:
        assert place in {"__class__", "class __hash__", "class __getattribute__", "__getstate__"}


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("place", [*METHODS, "__class__", "class __hash__", "class __eq__"])
def test_p5_a_result_that_is_itself_what_fights_back(one_worker, place, kind):
    bad = Task("bad", lambda: hostile_class(place, kind)(), retries=2, retry_delay=0.0)
    run = run_beside_others(one_worker, bad)
    if "bad" in run.failures:
        assert payload_error(run, "result_pickle").path == "result"


@pytest.mark.parametrize("place", HARMLESS)
def test_p5_what_pickle_does_not_ask_does_no_harm(one_worker, place):
    run = run_beside_others(one_worker, Task("bad", lambda: hostile_class(place, SystemExit)()))
    assert type(run["bad"]).__name__ == "Fights"


def test_p5_a_path_that_leads_through_what_fights_back(one_worker):
    class Dict(dict):
        def items(self):
            raise SystemExit("from items")

    def action():
        return [Dict(a=1), {hostile_class("__repr__", SystemExit)(): hostile_class("__reduce__", SystemExit)()}]

    error = payload_error(run_beside_others(one_worker, Task("bad", action)), "result_pickle")
    assert error.path.startswith("result")


@pytest.mark.parametrize("kind", RAISED)
def test_p3_an_argument_that_fights_back_in_the_worker(one_worker, kind):
    bad = Task("bad", len, (FightsBack(kind),), retries=2, retry_delay=0.0)
    error = payload_error(run_beside_others(one_worker, bad), "args_unpickle")
    assert kind.__name__ in str(error)


@pytest.mark.parametrize("kind", RAISED)
def test_p3_code_that_fights_back_in_the_worker(one_worker, kind):
    captured = FightsBack(kind)
    bad = Task("bad", lambda: captured, retries=2, retry_delay=0.0)
    error = payload_error(run_beside_others(one_worker, bad), "code_unpickle")
    assert kind.__name__ in str(error)


@pytest.mark.parametrize("size", [1, 200_000])
@pytest.mark.parametrize("kind", RAISED)
def test_p3_a_context_value_that_fights_back_in_the_worker(one_worker, kind, size):
    bad = Task("bad", lambda context: context["given"], retries=2, retry_delay=0.0)
    run = run_beside_others(one_worker, bad, context={"given": [bytes(size), FightsBack(kind)]})
    error = payload_error(run, "context_unpickle")
    assert error.path == "given"
    assert kind.__name__ in str(error)


@pytest.mark.parametrize("kind", RAISED)
def test_p7_an_upstream_value_that_fights_back_fails_who_reads_it(one_worker, kind):
    make = Task("make", lambda: FightsBack(kind))
    bad = Task("bad", lambda context: context["make"], retries=2, retry_delay=0.0)
    make.set_downstream(bad)
    run = Pipeline("p").add_task(make).add_task(bad).run(executor=one_worker)
    assert payload_error(run, "context_unpickle").path == "make"
    with pytest.raises(PayloadError, match=kind.__name__) as caught:
        run["make"]
    assert caught.value.stage == "result_unpickle"
    with pytest.raises(PayloadError):
        dict(run)


class ErrorThatFightsBack(ValueError):
    """Arrives as it is in a worker, and fights back where the user reads it."""

    def __setstate__(self, state):
        self.__dict__.update(state)
        if os.getpid() == self.home:
            raise self.kind("from __setstate__")


@pytest.mark.parametrize("kind", RAISED)
def test_u3_an_exception_that_fights_back_where_it_is_read(one_worker, kind):
    home = os.getpid()

    def action():
        error = ErrorThatFightsBack("what happened")
        error.home, error.kind = home, kind
        raise error

    run = run_beside_others(one_worker, Task("bad", action))
    error = run.failures["bad"]
    assert "what happened" in str(error)
    assert "what happened" in str(error.__cause__)
    assert str(error) in run.explain("bad")


def test_u26_a_recursion_limit_that_leaves_no_room_to_pack(one_worker):
    """How much room packing takes is the interpreter's business; at one of these limits at least it is too little."""
    failures = sum(packs_badly(one_worker, limit) for limit in range(1, 40))
    assert failures


def packs_badly(one_worker, limit):
    def action():
        import sys

        for _ in range(1000):
            try:
                sys.setrecursionlimit(limit)
                break
            except RecursionError:
                pass
        return {1: Hostile}

    run = run_beside_others(one_worker, Task("bad", action))
    if "bad" not in run.failures:
        return False
    payload_error(run, "result_pickle")
    return True


# --- a stop is no fault of the value's --------------------------------------------------------------------------------


class WaitsForTheStop:
    """Being pickled or unpickled in the worker takes until somebody ends it."""

    def __init__(self, where, way="passes"):
        self.where = where
        self.way = way

    def __reduce__(self):
        if self.where == "pickle":
            self.wait()
        return WaitsForTheStop.arrive, (self.where, self.way)

    def __str__(self):
        return "text" if self.where != "text" else self.wait()

    @staticmethod
    def arrive(where, way):
        value = WaitsForTheStop(where, way)
        if where == "unpickle":
            value.wait()
        return value

    def wait(self):
        try:
            while True:
                signal.pause()
        except BaseException:
            if self.way == "passes":
                raise
            raise SystemExit from None


class TextThatWaits(ValueError):
    def __init__(self, way):
        super().__init__(way)
        self.way = way

    def __str__(self):
        return WaitsForTheStop("text", self.way).wait()


def raise_it(way):
    raise TextThatWaits(way)


@pytest.mark.parametrize("way", ["passes", "is made another"])
@pytest.mark.parametrize("stage", ["args", "context", "result", "error"])
def test_a_stop_while_values_travel_is_a_time_out(stage, way):
    given = WaitsForTheStop("unpickle", way)
    bad = {
        "args": Task("bad", id, (given,), timeout=0.3),
        "context": Task("bad", lambda context: context["given"], timeout=0.3),
        "result": Task("bad", lambda: WaitsForTheStop("pickle", way), timeout=0.3),
        "error": Task("bad", raise_it, (way,), timeout=0.3),
    }[stage]
    with ProcessExecutor(max_workers=1, kill_grace_s=60.0) as executor:
        run = Pipeline("p").add_task(bad).run(executor=executor, context={"given": given} if stage == "context" else {})
    assert type(run.failures["bad"]) is TaskTimeoutError
    assert run.tasks["bad"].attempts[0].status == "TIMED_OUT"
    assert run.duration_s < 30  # by SIGTERM, not by the SIGKILL after the grace


def test_a_stop_while_a_context_value_is_read_is_no_exception_of_its_own(tmp_path):
    told = tmp_path / "told"

    def action(context):
        try:
            context["given"]
        except BaseException as error:
            told.write_text(type(error).__name__)
            raise

    bad = Task("bad", action, timeout=2.0)  # the worker must get as far as that, on a starved machine too
    with ProcessExecutor(max_workers=1, kill_grace_s=60.0) as executor:
        Pipeline("imports").add_task(Task("id", id, (WaitsForTheStop,))).run(executor=executor)
        run = Pipeline("p").add_task(bad).run(executor=executor, context={"given": WaitsForTheStop("unpickle")})
    assert type(run.failures["bad"]) is TaskTimeoutError
    assert told.read_text() == "TaskCancelled"
