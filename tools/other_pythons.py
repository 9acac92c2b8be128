"""Run the test suite on other Python versions, where this machine has them.

An interpreter is looked for as ``python3.12`` on PATH (one that starts: version managers put stand-ins there) and
among the versions of pyenv, if there is pyenv. Each version gets an environment of its own beside ``.venv``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def candidates(version: str) -> list[str]:
    found = [os.path.join(folder, f"python{version}") for folder in os.get_exec_path()]
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False).stdout.strip()
        found += map(str, sorted(Path(root, "versions").glob(f"{version}*/bin/python{version}"), reverse=True))
    return [path for path in found if os.access(path, os.X_OK)]


def starts(python: str, version: str) -> bool:
    probe = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    answer = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=False)
    return answer.returncode == 0 and answer.stdout.strip() == version


def main() -> None:
    failed = []
    for version in sys.argv[1:]:
        python = next((path for path in candidates(version) if starts(path, version)), None)
        if python is None:
            print(f"Python {version}: not found on this machine, not tested", flush=True)
            continue
        folder = f".venv-{version}"
        subprocess.run([python, ROOT / "tools" / "environment.py", folder], check=True)
        print(f"Python {version}: {python}", flush=True)
        suite = subprocess.run(
            [ROOT / folder / "bin" / "python", "-m", "pytest", "-n", "2", "--dist", "loadfile"], cwd=ROOT, check=False
        )
        if suite.returncode:
            failed.append(version)
    if failed:
        sys.exit(f"the suite fails on Python {', '.join(failed)}")


if __name__ == "__main__":
    main()
