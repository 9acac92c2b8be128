"""Build the wheel, install it with nothing but its declared dependencies, and run a pipeline from it.

What this finds and the suite cannot: a file missing from the wheel, a dependency that only the development
environment has, an import that works only beside the source.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

SCRIPT = """
from importlib.metadata import version
from pathlib import Path

import dremioframe
from dremioframe.orchestration import Pipeline, Task, task

@task(retries=3, timeout=30)
def extract():
    return [1, 2, 3]

@task
def transform(context=None):
    return [x * 2 for x in context["extract"]]

for executor in ("inline", "thread", "process"):
    t_extract, t_transform = extract(), transform()
    t_extract.set_downstream(t_transform)
    pipeline = Pipeline("etl", max_workers=2)
    pipeline.add_task(t_extract).add_task(t_transform)
    run = pipeline.run(executor=executor)
    assert run["transform"] == [2, 4, 6], run.failures
    assert t_transform.status == "SUCCESS"

home = Path(dremioframe.__file__).parent
assert "site-packages" in str(home), home
assert (home / "py.typed").exists()
print("wheel", version("dremioframe"), "runs with inline, thread and process")
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = folder.glob("*.whl")
        venv.create(folder / "empty", with_pip=True)
        python = str(folder / "empty" / "bin" / "python")
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)]
        subprocess.run(install, check=True)
        (folder / "pipeline.py").write_text(SCRIPT, encoding="utf-8")
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run([python, "-W", "error", "pipeline.py"], cwd=folder, env=env, check=True, timeout=120)


if __name__ == "__main__":
    main()
