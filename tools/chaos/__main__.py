"""``make chaos``: random pipelines under random faults, on processes and on the virtual clock, with printed seeds.

A trial that fails writes the faults that were applied to ``out/chaos-SEED.json``; ``--seed SEED --script FILE`` applies
the same ones again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tools.by_path import load

from . import scripts, trial, virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .scripts import Fault

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "out"
FUZZ = ROOT / "tests" / "faults" / "wire_fuzz.py"
EXHAUSTION = ROOT / "tests" / "faults" / "exhaustion.py"


def main() -> None:
    from loguru import logger

    logger.remove()
    options = _options()
    if options.soak:
        sys.exit(subprocess.run([sys.executable, "-m", "tools.soak"], cwd=ROOT, check=False).returncode)
    if options.script:
        _real(options.seed, iter(scripts.from_text(Path(options.script).read_text(encoding="utf-8"))))
        return
    if options.virtual is None or options.virtual > 0:
        _virtual(options.seed, 20_000 if options.virtual is None else options.virtual)
    if options.fuzz:
        _fuzz(options.fuzz, options.seed)
    _pool(options.seed, options.pool)
    if options.exhaustion and subprocess.run([sys.executable, EXHAUSTION, "--quiet"], cwd=ROOT, check=False).returncode:
        sys.exit("a call that fails hangs, leaks, or is not told")
    until, seed = time.monotonic() + options.minutes * 60, options.seed
    while time.monotonic() < until:
        _real(seed)
        seed += 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos ARGS=...", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000, help="the first seed")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to go on with real processes")
    parser.add_argument("--virtual", type=int, help="seeds on the virtual clock (20,000)")
    parser.add_argument("--fuzz", type=int, default=1_000_000, help="mutated frames")
    parser.add_argument("--pool", type=int, default=50, help="seeds of the trial of the bare pool")
    parser.add_argument(
        "--exhaustion", action=argparse.BooleanOptionalAction, default=True, help="fail every Nth call of each kind"
    )
    parser.add_argument("--script", help="apply the faults in this file to the one seed")
    parser.add_argument("--soak", action="store_true", help="10,000 runs in one process instead")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    return options


def _real(seed: int, script: Iterator[Fault] | None = None) -> None:
    began = time.monotonic()
    judged = trial.real(seed, script=script)
    kinds = ", ".join(
        f"{sum(f.what == what for f in judged.applied)} {what}"
        for what in scripts.WEIGHTS
        if any(f.what == what for f in judged.applied)
    )
    took_s = time.monotonic() - began
    if judged.survivors:
        kinds += f"; {judged.survivors} children of tasks left by a fork server and a sentry that were both killed"
    print(f"seed {seed}: {judged.tasks} tasks, {judged.executions} attempts, {took_s:.1f} s; {kinds}", flush=True)
    if judged.violations:
        OUT.mkdir(exist_ok=True)
        path = OUT / f"chaos-{seed}.json"
        path.write_text(scripts.to_text(judged.applied), encoding="utf-8")
        sys.exit("\n".join([*judged.violations, f"again: make chaos ARGS='--seed {seed} --script {path}'"]))


def _virtual(first: int, count: int) -> None:
    began = time.monotonic()
    for seed in range(first, first + count):
        violations = virtual.simulate(seed)
        if violations:
            sys.exit("\n".join([f"virtual clock, seed {seed}:", *violations]))
    print(f"virtual clock: {count} seeds from {first}, {time.monotonic() - began:.0f} s", flush=True)


def _pool(seed: int, count: int) -> None:
    if count:
        environ = {**os.environ, "CHAOS_SEEDS": f"{seed}-{seed + count - 1}"}
        command = [sys.executable, "-m", "pytest", "-q", "tests/pool/test_chaos.py"]
        if subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode:
            sys.exit(f"the bare pool, seeds {seed} to {seed + count - 1}")


def _fuzz(frames: int, seed: int) -> None:
    if not FUZZ.exists():
        print("no wire_fuzz.py here: frames are not fuzzed", flush=True)
        return
    fuzz: Callable[[int, int], object] = load(FUZZ).fuzz
    began = time.monotonic()
    fuzz(frames, seed)
    print(f"{frames} mutated frames, {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
