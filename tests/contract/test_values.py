"""What travels between tasks: arguments, results, the run's own values, and the context's answers."""

from __future__ import annotations

import functools
import itertools
import pickle
import re

import numpy as np
import pytest

from dremioframe.orchestration import PayloadError, Pipeline, PipelineRun, Task, task


def pipeline_of(*tasks, **options):
    pipeline = Pipeline("p", **options)
    for each in tasks:
        pipeline.add_task(each)
    return pipeline


def chain(*tasks):
    for above, below in itertools.pairwise(tasks):
        above.set_downstream(below)
    return pipeline_of(*tasks)


def test_first_page(executor):
    @task(retries=3, timeout=30)
    def extract():
        return [1, 2, 3]

    @task
    def transform(context=None):
        return [x * 2 for x in context["extract"]]

    t_extract, t_transform = extract(), transform()
    t_extract.set_downstream(t_transform)
    pipeline = Pipeline("etl", max_workers=4)
    pipeline.add_task(t_extract).add_task(t_transform)
    run = pipeline.run(executor=executor)
    assert run["transform"] == [2, 4, 6]
    assert dict(run) == {"extract": [1, 2, 3], "transform": [2, 4, 6]}
    assert run.status == t_transform.status == "SUCCESS"
    assert pipeline.last_run is run


def test_direct_and_indirect_values(executor):
    run = chain(
        Task("a", lambda: 1),
        Task("b", lambda context: context["a"] + 1),
        Task("c", lambda context: (context["a"], context["b"], sorted(context), len(context), "b" in context)),
    ).run(executor=executor)
    assert run["c"] == (1, 2, ["a", "b"], 2, True)


class Scaler:
    def __init__(self, factor):
        self.factor = factor

    def scale(self, value):
        return self.factor * value

    def __call__(self, value, context=None):
        return self.scale(value) + len(context)


def test_kinds_of_callables(executor):
    bonus = 100

    def nested(value):
        return value + bonus

    tasks = [
        Task("lambda", lambda: "l"),
        Task("closure", nested, args=(1,)),
        Task("partial", functools.partial(nested, value=2)),
        Task("bound", Scaler(3).scale, kwargs={"value": 5}),
        Task("object", Scaler(3), (7,)),
        Task("builtin", sum, ([1, 2, 3],)),
    ]
    run = pipeline_of(*tasks).run(executor=executor)
    run.raise_for_failure()
    assert dict(run) == {"lambda": "l", "closure": 101, "partial": 102, "bound": 15, "object": 21, "builtin": 6}


def test_context_attributes_and_run_values(executor):
    def look(context):
        return {
            "run_id": context.run_id,
            "pipeline": context.pipeline_name,
            "task": context.task_name,
            "attempt": context.attempt,
            "upstream": dict(context.upstream),
            "date": context["date"],
            "names": sorted(context),
        }

    pipeline = chain(Task("first", lambda: 1), Task("second", lambda context: 2), Task("look", look))
    run = pipeline.run(context={"date": "2026-01-01"}, executor=executor)
    assert run["look"] == {
        "run_id": run.run_id,
        "pipeline": "p",
        "task": "look",
        "attempt": 1,
        "upstream": {"second": "SUCCESS", "first": "SUCCESS"},
        "date": "2026-01-01",
        "names": ["date", "first", "second"],
    }


def test_missing_values_say_why(executor):
    def reasons(context):
        said = {}
        for name in ("broken", "nobody", "aside", "after"):
            try:
                context[name]
            except KeyError as error:
                said[name] = str(error)
        return said, context.get("broken", "default"), {name: str(error) for name, error in context.errors.items()}

    def broken():
        raise ValueError("no data")

    bad, aside, after = Task("broken", broken), Task("aside", lambda: 0), Task("after", lambda: 0)
    look = Task("look", reasons, trigger_rule="all_done")
    bad.set_downstream(look)
    look.set_downstream(after)
    run = pipeline_of(bad, aside, look, after).run(executor=executor)
    said, default, errors = run["look"]
    assert "failed" in said["broken"]
    assert "no task has that name" in said["nobody"]
    assert "not upstream" in said["aside"]
    assert "not upstream" in said["after"]
    assert default == "default"
    assert list(errors) == ["broken"]
    assert "no data" in errors["broken"]


@pytest.mark.parametrize("size", [0, 1_000, 70_000, 3_000_000])
def test_arrays_of_any_size_are_writable_by_their_consumer(executor, size):
    def consume(context):
        array = context["make"]
        array += 1
        return float(array.sum()), array.flags.writeable

    run = chain(Task("make", lambda: np.ones(size)), Task("consume", consume)).run(executor=executor)
    assert run["consume"] == (2.0 * size, True)


def test_large_arguments_and_results_travel(executor):
    blob = bytes(range(256)) * 4096
    run = pipeline_of(Task("echo", lambda data, *, tail: (data, tail), (blob,), {"tail": [1]})).run(executor=executor)
    assert run["echo"] == (blob, [1])


def test_wide_fan_in(executor):
    sources = [Task(f"s{i}", lambda i=i: [i] * 300) for i in range(150)]
    total = Task("total", lambda context: sum(sum(context[f"s{i}"]) for i in range(150)))
    for source in sources:
        source.set_downstream(total)
    run = pipeline_of(*sources, total).run(executor=executor, max_workers=2)
    assert run["total"] == 300 * sum(range(150))


def test_odd_names_are_only_names(executor):
    names = ["", "../x", "a\nb", "nul\0", "🚀", "x" * 100_000, "'\"[]{}"]
    tasks = [Task(name, lambda context: context.task_name) for name in names]
    for above, below in itertools.pairwise(tasks):
        above.set_downstream(below)
    tail = Task("tail", lambda context: [context[name] for name in names])
    tasks[-1].set_downstream(tail)
    assert pipeline_of(*tasks, tail).run(executor=executor)["tail"] == names


def test_a_value_is_read_once(executor):
    run = chain(Task("a", lambda: {"x": [1]})).run(executor=executor)
    assert run["a"] is run["a"]


def test_a_run_pickles_with_its_values(executor):
    def fail():
        raise LookupError("gone")

    run = pipeline_of(Task("a", lambda: [1, 2]), Task("b", fail)).run(executor=executor)
    copy = pickle.loads(pickle.dumps(run))
    assert isinstance(copy, PipelineRun)
    assert dict(copy) == {"a": [1, 2]}
    assert copy.status == "FAILED"
    assert copy.tasks["b"].status == "FAILED"
    assert isinstance(copy.failures["b"].__cause__, LookupError)
    assert len(copy.tasks["a"].attempts) == 1


def test_keep_results(executor):
    def tasks():
        return (
            Task("a", lambda: "A"),
            Task("b", lambda context: context["a"] + "B"),
            Task("c", lambda context: context["a"] + context["b"]),
        )

    assert dict(chain(*tasks()).run(executor=executor)) == {"a": "A", "b": "AB", "c": "AAB"}
    leaves = chain(*tasks()).run(executor=executor, keep_results="leaves")
    assert dict(leaves) == {"c": "AAB"}
    with pytest.raises(KeyError, match="keep_results"):
        leaves["a"]
    assert dict(chain(*tasks()).run(executor=executor, keep_results="none")) == {}


def test_a_value_that_never_was_says_how_its_task_ended_and_who_knows_more(executor):
    run = chain(Task("a", lambda: 1 // 0), Task("b", lambda context: context["a"])).run(executor=executor)
    with pytest.raises(KeyError, match=re.escape("task 'b' has no result: it ended SKIPPED; run.explain('b')")):
        run["b"]


class Collector:
    """Like many an object with a method for an action."""

    def __init__(self):
        self.rows = []

    def __call__(self, n):
        self.rows.append(n)
        return list(self.rows)

    def collect(self, n):
        return self(n)


def closure():
    rows = []

    def collect(n):
        rows.append(n)
        return list(rows)

    return collect


def default():
    def collect(n, rows=[]):
        rows.append(n)
        return list(rows)

    return collect


@pytest.mark.parametrize(
    "make",
    [
        Collector,
        lambda: Collector().collect,
        closure,
        default,
        lambda: functools.partial(Collector.collect, Collector()),
    ],
)
def test_objects_that_look_alike_do_not_become_one(executor, make):
    tasks = [Task(f"t{n}", make(), args=(n,)) for n in range(6)]
    run = pipeline_of(*tasks).run(executor=executor, max_workers=1)
    assert [run[f"t{n}"] for n in range(6)] == [[n] for n in range(6)]


class Stubborn:
    def __reduce__(self):
        raise TypeError("I do not travel")


def test_unpicklable_results_and_arguments():
    def bad_result():
        return {"rows": [1, Stubborn()]}

    tasks = [Task("result", bad_result, retries=5), Task("args", len, ([Stubborn()],)), Task("good", lambda: 1)]
    run = pipeline_of(*tasks).run(executor="process", max_workers=1)
    assert dict(run) == {"good": 1}
    result, args = run.failures["result"], run.failures["args"]
    assert isinstance(result, PayloadError)
    assert (result.task, result.stage, result.path) == ("result", "result_pickle", "result['rows'][1]")
    assert isinstance(args, PayloadError)
    assert (args.task, args.stage, args.path) == ("args", "args_pickle", "args[0][0]")
    assert len(run.tasks["result"].attempts) == 1
    pid = {record.worker_pid for name in ("result", "good") for record in run.tasks[name].attempts}
    assert len(pid) == 1, "the worker lived on"


def test_p1_unpicklable_run_value_fails_only_who_reads_it():
    reader = Task("reader", lambda context: context["bad"])
    other = Task("other", lambda context: context["good"])
    run = pipeline_of(reader, other).run(context={"bad": Stubborn(), "good": 1}, executor="process")
    assert run["other"] == 1
    assert isinstance(run.failures["reader"], PayloadError)


class ExplodesOnLoad:
    def __reduce__(self):
        return (int, ("not a number",))


def test_p7_a_result_that_does_not_unpickle_fails_its_consumer_only():
    make = Task("make", ExplodesOnLoad)
    consume = Task("consume", lambda context: context["make"])
    make.set_downstream(consume)
    run = pipeline_of(make, consume, Task("other", lambda: 1)).run(executor="process")
    assert run["other"] == 1
    assert run.tasks["make"].status == "SUCCESS"
    assert isinstance(run.failures["consume"], PayloadError)
    assert run.failures["consume"].stage == "context_unpickle"
    with pytest.raises(PayloadError, match="make"):
        run["make"]
