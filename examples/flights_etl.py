"""An ETL pipeline on real data: the 336,776 flights that left New York in 2013, studied month by month on every core.

    python examples/flights_etl.py [output folder]

Sources are read once; then each month is cleaned and joined, studied in plain Python (the CPU-heavy stage),
summarised and written, all months in parallel. Beside it runs a branch that fails by design, to show a time-out, an
alert and a clean-up. At the end the same stage functions do the same work in this one process, for comparison.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dremioframe.orchestration import Pipeline, PipelineRun, Task, task

import flights_stages as stages

OUTPUT = Path(sys.argv[1] if len(sys.argv) > 1 else "out/flights").resolve()
STAGING = OUTPUT / "staging"
REFERENCE = ("weather", "planes", "airports", "airlines")

# ------------------------------------------------------------------------------------------------------------- sources


@task
def flights():
    return stages.read_flights()


@task(retries=3, retry_delay=0.1)
def weather(context=None):
    if context.attempt <= 2:
        raise ConnectionError("the weather service is busy (by design: its first two attempts fail)")
    return stages.read_weather()


# ----------------------------------------------------------------------------------------------------------- per month


@task
def prepare(month, context=None):
    return stages.clean_and_join(context["flights"][month], *(context[name] for name in REFERENCE))


@task
def study(month, context=None):
    return stages.add_delay_study(context[f"prepare_{month:02}"])


@task
def summarise(month, context=None):
    return stages.summarise(context[f"study_{month:02}"])


@task
def write(month, context=None):
    return stages.write(context[f"study_{month:02}"], STAGING / f"flights-2013-{month:02}.parquet")


# ------------------------------------------------------------------------------------------------------- all months


@task
def publish(context=None):
    """Only what passed its checks leaves the staging folder."""
    summary = pa.concat_tables([context[f"summarise_{month:02}"] for month in stages.MONTHS])
    stages.check_totals(summary)
    stages.write(summary, STAGING / "summary-2013.parquet")
    for path in STAGING.iterdir():
        os.replace(path, OUTPUT / path.name)
    return summary


# ------------------------------------------------------------------------------------ the branch that fails by design


@task(timeout=0.5)
def live_feed():
    threading.Event().wait()  # a service that never answers


@task
def publish_live(context=None):
    return context["live_feed"]


@task(trigger_rule="one_failed")
def alert(context=None):
    return "; ".join(f"{name}: {error}" for name, error in context.errors.items())


@task(trigger_rule="all_done")
def clean_up():
    shutil.rmtree(STAGING)
    return f"removed {STAGING.name}/, whatever had happened before"


# ------------------------------------------------------------------------------------------------------------ pipeline


def build() -> Pipeline:
    STAGING.mkdir(parents=True, exist_ok=True)
    pipeline = Pipeline("flights")
    sources = [flights(), weather()]
    sources += [Task(name, getattr(stages, f"read_{name}")) for name in REFERENCE if name != "weather"]
    t_publish, t_clean_up = publish(), clean_up()
    for source in sources:
        pipeline.add_task(source)
    for month in stages.MONTHS:
        each = [step.with_options(name=f"{step.fn.__name__}_{month:02}") for step in (prepare, study, summarise, write)]
        t_prepare, t_study, t_summarise, t_write = (step(month) for step in each)
        for source in sources:
            source.set_downstream(t_prepare)
        t_prepare.set_downstream(t_study).set_downstream(t_summarise).set_downstream(t_publish)
        t_study.set_downstream(t_write).set_downstream(t_publish)
        for each_task in (t_prepare, t_study, t_summarise, t_write):
            pipeline.add_task(each_task)
    t_live, t_publish_live, t_alert = live_feed(), publish_live(), alert()
    t_live.set_downstream(t_publish_live)
    t_live.set_downstream(t_alert)
    for last in (t_publish, t_publish_live, t_alert):
        last.set_downstream(t_clean_up)
    for each_task in (t_publish, t_live, t_publish_live, t_alert, t_clean_up):
        pipeline.add_task(each_task)
    return pipeline


def in_one_process(folder: Path) -> tuple[pa.Table, float, float]:
    """The same stage functions on the same data, one after the other. Returns the summary and two durations."""
    started, heavy_s = time.monotonic(), 0.0
    by_month = stages.read_flights()
    reference = [getattr(stages, f"read_{name}")() for name in REFERENCE]
    summaries = []
    for month in stages.MONTHS:
        joined = stages.clean_and_join(by_month[month], *reference)
        before = time.monotonic()
        studied = stages.add_delay_study(joined)
        heavy_s += time.monotonic() - before
        summaries.append(stages.summarise(studied))
        stages.write(studied, folder / f"{month}.parquet")
    return pa.concat_tables(summaries), time.monotonic() - started, heavy_s


# -------------------------------------------------------------------------------------------------------------- report


def heavy_seconds(run: PipelineRun) -> tuple[float, int]:
    """How long the CPU-heavy stages kept the busiest worker, and how many workers shared them."""
    busy: dict[int | None, float] = {}
    for month in stages.MONTHS:
        attempt = run.tasks[f"study_{month:02}"].attempts[-1]
        busy[attempt.worker_pid] = busy.get(attempt.worker_pid, 0.0) + (attempt.wall_s or 0.0)
    return max(busy.values()), len(busy)


def print_table(summary: pa.Table) -> None:
    totals = summary.group_by("month").aggregate([(name, "sum") for name in summary.column_names[3:]])
    print(
        f"\n{'month':>5} {'flights':>8} {'cancelled':>9} {'arrival delay':>13} {'late aircraft':>13}"
        f" {'knock-on':>9} {'near encounters':>15}"
    )
    for row in totals.sort_by("month").to_pylist():  # group_by promises no order
        print(
            f"{row['month']:>5} {row['count_all_sum']:>8,} {row['cancelled_sum_sum']:>9,}"
            f" {row['arr_delay_sum_sum'] / row['arr_delay_count_sum']:>9.2f} min"
            f" {row['late_aircraft_min_sum_sum']:>9,} min {row['knock_on_min_sum_sum']:>5,.0f} min"
            f" {row['near_encounters_sum_sum'] // 2:>15,}"
        )
    late, knock_on = (pc.sum(summary[f"{name}_min_sum"]).as_py() for name in ("late_aircraft", "knock_on"))
    print(
        f"Aircraft that came late explain {late:,} minutes of departure delay; {knock_on:,.0f} minutes would have\n"
        "vanished along the aircraft's days, had the flights before left without a delay of their own."
    )


def print_branch(run: PipelineRun) -> None:
    live, publish = run.tasks["live_feed"], run.tasks["publish_live"]
    print(f"retries:    weather needed {len(run.tasks['weather'].attempts)} attempts")
    print(f"time-out:   live_feed {live.status.value} with {type(live.error).__name__}, by design")
    print(f"skipped:    publish_live {publish.status.value}, cause {publish.skip_cause}")
    print(f"alert:      {run['alert']}")
    print(f"clean-up:   {run['clean_up']}")


def print_speed_up(what: str, serial_s: float, parallel_s: float) -> None:
    print(f"{what:24}{serial_s:>10.2f} s{parallel_s:>11.2f} s{serial_s / parallel_s:>9.2f}x")


def main() -> int:
    print(
        "1/2  The pipeline, on processes. Its source 'weather' fails twice and its branch 'live_feed' times out,\n"
        "     both by design: expect that in the log.",
        flush=True,
    )
    started = time.monotonic()
    run = build().run(executor="process")
    parallel_s = time.monotonic() - started
    if list(run.failures) != ["live_feed"]:
        print(f"NOT as designed: run {run.status}")
        for name, error in run.failures.items():
            print(f"  {name}: {error}")
        return 1
    summary: pa.Table = run["publish"]
    heavy_parallel_s, workers = heavy_seconds(run)
    print("2/2  The same work in one process ...", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        serial_summary, serial_s, heavy_serial_s = in_one_process(Path(folder))

    print_table(summary)
    same = serial_summary.equals(summary)
    print("\nself-check: " + "; ".join(stages.check_totals(summary)))
    print(f"self-check: same summary in one process: {'yes' if same else 'NO'}")
    print_branch(run)
    print(f"\n{'':24}{'one process':>12}{f'{workers} processes':>13}{'speed-up':>10}")
    print_speed_up("CPU-heavy stages", heavy_serial_s, heavy_parallel_s)
    print_speed_up("everything", serial_s, parallel_s)
    print(f"\noutput: {OUTPUT} ({len(list(OUTPUT.glob('flights-2013-*.parquet')))} months, summary-2013.parquet)")
    return 0 if same else 1


sys.exit(main())
