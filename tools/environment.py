"""Make the development environment, if it is not there or not what pyproject.toml asks for.

Run by the Makefile with whatever Python the machine has; needs nothing but the standard library::

    python3.11 tools/environment.py .venv                          # to develop
    python3.11 tools/environment.py .venv-bench bench,examples     # with these extras instead

The stamp is written last, so a build that was interrupted is begun anew. It holds what decides about the content of
the environment (the interpreter, the dependencies) and not the tools' settings, so editing a lint rule costs nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_EXTRAS = "dev,examples"


def wanted(extras: str) -> str:
    """What the environment must have been built from."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]
    inputs = {
        "root": str(ROOT),
        "base": [sys.version, os.path.realpath(sys._base_executable)],  # type: ignore[attr-defined]  # noqa: SLF001
        "build": pyproject["build-system"],
        "dependencies": project["dependencies"],
        "extras": [project["optional-dependencies"][name] for name in extras.split(",")],
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def works(python: Path) -> bool:
    """Whether the interpreter of the environment starts at all (it may have been moved, or its base removed)."""
    if not python.exists():
        return False
    return (
        subprocess.run([python, "-c", "import dremioframe"], cwd="/", check=False, capture_output=True).returncode == 0
    )


def build(folder: Path, extras: str) -> None:
    print(f"building {folder.name} with Python {sys.version.split()[0]} ...", flush=True)
    if folder.exists():
        shutil.rmtree(folder)
    venv.create(folder, with_pip=True)
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--editable", f"{ROOT}[{extras}]"], check=True)


def compile_package(python: Path) -> None:
    """As pip does for what is not editable: PYTHONDONTWRITEBYTECODE would have each process compile all of it anew."""
    subprocess.run([python, "-m", "compileall", "-q", ROOT / "dremioframe"], check=False)


def main() -> None:
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        sys.exit(f"dremioframe needs Python 3.11 to 3.13; {sys.executable} is {sys.version.split()[0]}")
    folder = ROOT / sys.argv[1]
    extras = sys.argv[2] if len(sys.argv) > 2 else DEFAULT_EXTRAS
    stamp = folder / "built-from"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted(extras) and works(folder / "bin" / "python"):
        compile_package(folder / "bin" / "python")
        return
    build(folder, extras)
    compile_package(folder / "bin" / "python")
    stamp.write_text(wanted(extras), encoding="utf-8")


if __name__ == "__main__":
    main()
