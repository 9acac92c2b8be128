"""The real engine on the virtual clock: random DAGs, random faults, an independent oracle, invariants at every step.

The oracle knows the contract and nothing of the machine: it walks the DAG once and says how each task must end. Without
a cancel the end of every task is fixed by the graph and the script alone, whatever the order of arrival.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from dremioframe.orchestration import Pipeline, Task, TriggerRule
from dremioframe.orchestration.compile import compile_tasks
from dremioframe.orchestration.engine.coordinator import Coordinator
from dremioframe.orchestration.engine.interrupts import Interrupts
from dremioframe.orchestration.interfaces import Plan
from dremioframe.orchestration.machine.invariants import check as check_invariants
from dremioframe.orchestration.records import PipelineRun
from dremioframe.orchestration.run_data import RunData
from dremioframe.orchestration.testing import (
    SimulatedExecutor,
    exceed_memory,
    fail,
    hang,
    lose_worker,
    never_start,
    retry,
    skip,
    succeed,
)

SEEDS = 2000
CHUNK = 250
RULES = [str(rule) for rule in TriggerRule]


class Case:
    """One random pipeline with its script."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.seed = seed
        self.script = {}
        self.tasks = [self._task(f"t{i}") for i in range(self.random.randint(1, 14))]
        density = self.random.choice([0.1, 0.3, 0.6])
        for i, below in enumerate(self.tasks):
            for above in self.tasks[:i]:
                if self.random.random() < density:
                    above.set_downstream(below)
        self.random.shuffle(self.tasks)
        self.workers = self.random.choice([1, 2, 5])
        self.timeout = self.random.choice([None, None, 0.7, 3.0])
        self.keep = self.random.choice(["all", "leaves", "none"])

    def _task(self, name):
        pick = self.random
        timeout = pick.choice([None, 2.0])
        faults = [
            lambda: succeed(name, pick.choice([0.0, 0.5, 1.0])),
            lambda: fail(after_s=pick.choice([0.0, 1.0])),
            lambda: lose_worker(pick.choice([0.0, 1.0])),
            lambda: skip(after_s=0.5),
            lambda: retry(pick.choice([None, 0.0, 1.5])),
            lambda: never_start(pick.choice([0.0, 0.5])),
            lambda: exceed_memory(pick.choice([0.0, 1.0])),
            (lambda: succeed(name, 5.0)) if timeout is None else hang,
        ]
        weights = [5, 2, 1, 1, 1, 1, 1, 1]
        self.script[name] = [pick.choices(faults, weights)[0]() for _ in range(6)] + [succeed(name)]
        return Task(
            name,
            (lambda context: None) if pick.random() < 0.5 else (lambda: None),
            retries=pick.choice([0, 0, 1, 3]),
            retry_delay=pick.choice([0.0, 1.0]),
            trigger_rule=pick.choice(RULES) if pick.random() < 0.7 else "all_success",
            timeout=timeout,
            priority=pick.choice([0, 0, 1, -3]),
        )

    def run(self, check=True):
        dag = compile_tasks(self.tasks)
        data = RunData("id", "p", dag, datetime.now(UTC))
        limits = dict.fromkeys(range(dag.n), 1 << 20)
        plan = Plan("id", "p", dag, self.tasks, [task.timeout for task in self.tasks], {}, None, limits)
        executor = SimulatedExecutor(self.workers, self.script, seed=self.seed)
        Coordinator(
            plan,
            executor,
            data,
            Interrupts(),
            keep_results=self.keep,
            timeout_s=self.timeout,
            seed=self.seed,
            after_event=check_invariants if check else None,
        ).run()
        return PipelineRun(data), executor


# ------------------------------------------------------------------------------------------------------------- oracle


def oracle(tasks, script):
    """State of every task by the contract's prose: 'S', 'F', 'U' or 'K', and the number of attempts."""
    ends, attempts = {}, {}

    def settle(one):
        stack = [one]
        while stack:
            top = stack[-1]
            missing = [above for above in top.upstream if above.name not in ends]
            if missing:
                stack += missing
                continue
            stack.pop()
            if top.name not in ends:
                verdict = rule_says(top.trigger_rule, [ends[above.name] for above in top.upstream])
                ends[top.name], attempts[top.name] = play(top, script) if verdict == "run" else (verdict, 0)

    for one in tasks:
        settle(one)
    return ends, attempts


def rule_says(rule, ends):
    if not ends:
        return "run"
    failed, succeeded = [e for e in ends if e in "FU"], [e for e in ends if e == "S"]
    skipped = [e for e in ends if e == "K"]
    blame_failure = "U" if failed else "K"
    if rule == "all_success":
        return "run" if len(succeeded) == len(ends) else blame_failure
    if rule == "all_failed":
        return "run" if len(failed) == len(ends) else "K"
    if rule in ("all_done", "always"):
        return "run"
    if rule in ("all_done_min_one_success", "one_success"):
        return "run" if succeeded else blame_failure
    if rule == "all_skipped":
        return "run" if len(skipped) == len(ends) else "K"
    if rule == "one_failed":
        return "run" if failed else "K"
    if rule == "one_done":
        return "run" if succeeded or "F" in ends else ("U" if "U" in ends else "K")
    if rule == "none_failed":
        return "U" if failed else "run"
    if rule == "none_failed_min_one_success":
        return "run" if succeeded and not failed else blame_failure
    assert rule == "none_skipped"
    return "K" if skipped else "run"


def play(one, script):
    """The attempts of one task, by its script."""
    attempt = 0
    for behaviour in script[one.name]:
        if behaviour.kind == "never_start":
            continue
        attempt += 1
        overdue = one.timeout is not None and behaviour.after_s > one.timeout
        if behaviour.kind == "return" and not overdue:
            return "S", attempt
        if type(behaviour.error).__name__ == "SkipTask":
            return "K", attempt
        if attempt > one.retries:
            return "F", attempt
    raise AssertionError("the script is too short")


LETTER = {"SUCCESS": "S", "FAILED": "F"}


def letter(record):
    if record.status == "SKIPPED":
        return "U" if record.skip_cause == "UPSTREAM_FAILED" else "K"
    return LETTER[record.status]


# -------------------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_random_runs_agree_with_the_oracle(first):
    cancelled = 0
    for seed in range(first, first + CHUNK):
        case = Case(seed)
        run, executor = case.run()
        ends, attempts = oracle(case.tasks, case.script)
        check_trace(executor, case)
        if run.status == "CANCELLED":
            cancelled += 1
            for name, record in run.tasks.items():
                assert record.status != "SUCCESS" or ends[name] == "S", (seed, name)
            continue
        got = {name: letter(record) for name, record in run.tasks.items()}
        assert got == ends, f"seed {seed}"
        assert {name: len(record.attempts) for name, record in run.tasks.items()} == attempts, f"seed {seed}"
        assert run.status == ("FAILED" if "F" in ends.values() else "SUCCESS")
        if case.keep == "all":
            assert set(run) == {name for name, end in ends.items() if end == "S"}
    assert 0 < cancelled < CHUNK, "the cases should include both cancelled and complete runs"


def check_trace(executor, case):
    """Attempts of a task never overlap and count 1, 2, 3, ...; never more run than there are workers."""
    busy, numbers = set(), {}
    for _, what, name, attempt in executor.trace:
        if what == "submitted":
            assert name not in {running for running, _ in busy}, f"seed {case.seed}: attempts of {name} overlap"
            assert attempt == numbers.get(name, 0) + 1, f"seed {case.seed}: attempt {attempt} of {name}"
            numbers[name] = attempt
            busy.add((name, attempt))
        else:
            busy.remove((name, attempt))
            if what == "returned":
                numbers[name] -= 1
        assert len(busy) <= case.workers
    assert not busy, f"seed {case.seed}: attempts without an end"


def digest(seeds):
    told = hashlib.blake2b()
    for seed in seeds:
        run, executor = Case(seed).run(check=False)
        told.update(repr(executor.trace).encode())
        told.update("\n".join(run.explain(name) for name in run.tasks).encode())
    return told.hexdigest()


def test_d13_same_inputs_same_outputs_under_any_hash_seed():
    code = f"import runpy; print(runpy.run_path({__file__!r})['digest'](range(100)))"
    said = set()
    for hash_seed in ("0", "1", "4242"):
        environ = {**os.environ, "PYTHONHASHSEED": hash_seed}
        said.add(subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, check=True).stdout)
    assert said == {f"{digest(range(100))}\n".encode()}


def test_an_attempt_over_its_memory_limit_fails_as_a_memory_error():
    pipeline = Pipeline("p")
    pipeline.add_task(Task("t", len, ([],), memory_limit="1GB", retries=2, retry_delay=1.0, retry_on=MemoryError))
    executor = SimulatedExecutor(script={"t": [exceed_memory(5.0), exceed_memory(), succeed("ok")]})
    run = pipeline.run(executor=executor)
    assert run["t"] == "ok"
    assert [attempt.status for attempt in run.tasks["t"].attempts] == ["OUT_OF_MEMORY", "OUT_OF_MEMORY", "SUCCESS"]
    assert isinstance(run.tasks["t"].attempts[0].error, MemoryError)
    assert "1,000,000,000 bytes" in str(run.tasks["t"].attempts[0].error)
