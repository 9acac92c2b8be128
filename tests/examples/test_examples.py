"""Every example runs as it stands, as a script, and prints what it promises."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def start(script: str, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", EXAMPLES / script, *arguments]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(script: str, *arguments: str, cwd: Path, expect: int = 0) -> tuple[str, str]:
    with start(script, *arguments, cwd=cwd) as process:
        out, err = process.communicate()
    assert process.returncode == expect, out + err
    return out, err


def test_basic(tmp_path: Path) -> None:
    out, _ = run("seed/basic.py", cwd=tmp_path)
    assert out == "Step 1\nStep 2\n"


def test_decorator(tmp_path: Path) -> None:
    out, _ = run("seed/decorator.py", cwd=tmp_path)
    assert out == "[2, 4, 6]\n"


def test_parallel(tmp_path: Path) -> None:
    out, _ = run("seed/parallel.py", cwd=tmp_path)
    assert out == "SUCCESS [0, 1, 2, 3]\n"


def test_visualization(tmp_path: Path) -> None:
    out, _ = run("seed/visualization.py", cwd=tmp_path)
    assert out.startswith("graph TD\n")
    assert "extract --> transform" in out
    assert (tmp_path / "pipeline.mermaid").read_text(encoding="utf-8").strip() == out.strip()


def test_branching(tmp_path: Path) -> None:
    out, err = run("seed/branching.py", cwd=tmp_path)
    assert out == "Something went wrong!\nFAILED SUCCESS\n"
    assert "the source is empty" in err
    assert "process_data" in err


def test_scheduling_runs_once_and_ends_at_ctrl_c(tmp_path: Path) -> None:
    with start("seed/scheduling.py", cwd=tmp_path) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert first + out == "refreshed\n", err
    assert "Traceback" not in err
    assert process.returncode == 0, err


@pytest.mark.watchdog(300)
def test_flights(tmp_path: Path) -> None:
    out, err = run("flights_etl.py", "result", cwd=tmp_path)
    for line in (
        "self-check: 336,776 flights; 8,255 departures cancelled; mean arrival delay 6.895 min",
        "self-check: same summary in one process: yes",
        "retries:    weather needed 3 attempts",
        "time-out:   live_feed FAILED with TaskTimeoutError, by design",
        "skipped:    publish_live SKIPPED, cause UPSTREAM_FAILED",
        f"output: {tmp_path / 'result'} (12 months, summary-2013.parquet)",
    ):
        assert line in out, out + err
    assert re.search(r"^alert: +live_feed: .*live_feed", out, re.MULTILINE), out
    assert re.search(r"^clean-up: +removed staging/", out, re.MULTILINE), out
    assert not (tmp_path / "result" / "staging").exists()
    written = sorted(path.name for path in (tmp_path / "result").iterdir())
    assert written == [*(f"flights-2013-{month:02}.parquet" for month in range(1, 13)), "summary-2013.parquet"]
    assert "Traceback" not in out
    assert "weather" in err
    months = re.findall(r"^ +(\d+) +[\d,]+ +[\d,]+ +-?[\d.]+ min ", out, re.MULTILINE)
    assert months == [str(month) for month in range(1, 13)], out
    assert re.search(r"^CPU-heavy stages +[\d.]+ s +[\d.]+ s +[\d.]+x$", out, re.MULTILINE), out


def test_every_computed_column_of_the_flights_is_written(tmp_path: Path) -> None:
    """Checked on one month, without a pipeline: what the stages add is what the file holds."""
    script = """
import sys
sys.path.insert(0, sys.argv[1])
import flights_delays, flights_stages as stages, pyarrow.parquet as parquet
from pathlib import Path
reference = stages.read_weather(), stages.read_planes(), stages.read_airports(), stages.read_airlines()
joined = stages.clean_and_join(stages.read_flights()[2], *reference)
study = flights_delays.study_delays({name: joined[name].to_pylist() for name in joined.column_names})
path = stages.write(stages.add_delay_study(joined), Path("month.parquet"))
table = parquet.read_table(path)
assert table.column_names == [*joined.column_names, *study], table.column_names
assert table.num_rows == joined.num_rows == 24951
rows = table.to_pylist()
for row in rows:
    if row["dep_delay"] is None:
        assert row["cancelled"] and row["own_min"] is None
    else:
        assert row["late_aircraft_min"] + row["own_min"] == row["dep_delay"]
        assert row["knock_on_min"] >= 0 and (row["knock_on_flights"] > 0) == (row["knock_on_min"] > 0)
    assert abs(row["great_circle_km"] / row["distance_km"] - 1) < 0.02, row
assert sum(row["knock_on_min"] for row in rows if row["own_min"]) > 0
"""
    command = [sys.executable, "-c", script, EXAMPLES]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
