"""Results that go ahead of their outcomes: a value over 64 kB costs its task no second execution."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dremioframe.orchestration import Pipeline, ProcessExecutor, Task

TASKS = 200


@pytest.mark.parametrize("size", [100_000, 10])
def test_a_task_is_executed_once_whatever_the_size_of_its_result(tmp_path, size):
    def action(number):
        with open(tmp_path / "executed", "a") as file:
            file.write(f"{number}\n")  # one write, at the end of the file: lines of two workers do not mix
        return number.to_bytes(2, "little") * (size // 2)

    pipeline = Pipeline("p")
    for number in range(TASKS):
        pipeline.add_task(Task(f"t{number}", action, (number,), retries=2, retry_delay=0.0))
    with ProcessExecutor(max_workers=2) as executor:
        run = pipeline.run(executor=executor)
    assert run.status == "SUCCESS"
    assert sorted(map(int, (tmp_path / "executed").read_text().split())) == list(range(TASKS))
    assert {len(each.attempts) for each in run.tasks.values()} == {1}
    for number in range(TASKS):
        assert run[f"t{number}"] == number.to_bytes(2, "little") * (size // 2)


SCRIPT = """
from dremioframe.orchestration import *

p = Pipeline("m")
p.add_task(Task("big", lambda: bytearray(100_000)))
p.run(executor="process")
"""


def test_a_program_that_ends_with_a_long_result_says_nothing_of_it(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=True)
    assert [line for line in done.stderr.splitlines() if " | INFO     | " not in line] == []
    assert "run ended SUCCESS" in done.stderr
