"""The command: ``make bench``, or ``python -m benchmarks``; see the package's header for how it measures.

Prints a table with ratios and a line for each goal, and writes ``out/bench/latest.json`` and ``latest.svg``. ``--docs``
puts table, picture and the profile (``anatomy``, ``saturation``) into ``docs/performance.md`` as well.
"""

from __future__ import annotations

import argparse
import sys
import time
from compileall import compile_dir
from pathlib import Path
from typing import TYPE_CHECKING

from . import anatomy, peers, picture, report, saturation
from .conduct import become_subreaper, conduct
from .document import update
from .settings import ROOT, Settings
from .workloads import ALL, BY_NAME

if TYPE_CHECKING:
    from .series import Results
    from .workloads.workload import Workload

QUICK_SCALE = 0.1
ROUNDS = 5
OUTPUT = ROOT / "out" / "bench"


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure dremioframe and its peers, interleaved in one run."
    )
    command.add_argument("--only", type=names, metavar="WORKLOAD,...", help=f"of {', '.join(BY_NAME)}")
    command.add_argument("--peers", type=names, metavar="PEER,...", help="measure beside these only, e.g. ray,dask")
    command.add_argument("--rounds", type=int, help=f"turns for each (default {ROUNDS}; long workloads take fewer)")
    command.add_argument("--quick", action="store_true", help="a tenth of every size and one round: does it all work?")
    command.add_argument("--workflows", type=Path, metavar="DIR", help="recorded DAGs (JSON); else synthetic ones")
    command.add_argument("--docs", action="store_true", help="put table and picture into docs/performance.md")
    return command


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def chosen_workloads(only: list[str] | None) -> list[Workload]:
    unknown = [name for name in only or () if name not in BY_NAME]
    if unknown:
        sys.exit(f"no workload called {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    return [workload for workload in ALL if only is None or workload.name in only]


def chosen_contestants(workload: Workload, chosen: list[str] | None) -> list[str]:
    """A peer is meant with all its variants, which begin with its name; who is no peer is always measured."""
    unwanted = () if chosen is None else tuple(name for name in (*peers.ALL, "joblib") if name not in chosen)
    return [name for name in workload.contestants if not name.startswith(unwanted)]


def tell(progress: str) -> None:
    print(f"  {progress}", file=sys.stderr, flush=True)


def main() -> None:
    options = parser().parse_args()
    workflows = options.workflows.resolve() if options.workflows else None
    settings = Settings(scale=QUICK_SCALE if options.quick else 1.0, workflows=workflows)
    rounds = options.rounds or (1 if options.quick else ROUNDS)
    workloads = chosen_workloads(options.only)
    become_subreaper()
    for package in ("dremioframe", "benchmarks"):
        compile_dir(ROOT / package, quiet=1)  # as an installer does: the peers came through one
    started = time.monotonic()
    results: Results = {}
    for workload in workloads:
        contestants = chosen_contestants(workload, options.peers)
        results[workload.name] = conduct(workload, contestants, rounds, settings, tell)
        print(report.table(results[workload.name]), end="\n\n", flush=True)
    print(report.goals(results), end="\n\n")
    print(report.circumstances(settings, rounds))
    OUTPUT.mkdir(parents=True, exist_ok=True)
    report.write_json(results, settings, rounds, OUTPUT / "latest.json")
    written = [OUTPUT / "latest.json"]
    if picture.draw(results, OUTPUT / "latest.svg"):
        written.append(OUTPUT / "latest.svg")
    if options.docs:
        profile = f"{anatomy.text()}\n\n{saturation.text()}"
        written += update(ROOT / "docs", results, report.circumstances(settings, rounds), profile)
    print(
        f"\n{time.monotonic() - started:.0f} s; written: {', '.join(str(path.relative_to(ROOT)) for path in written)}"
    )


if __name__ == "__main__":
    main()
