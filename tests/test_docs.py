"""Documents that are generated, or that must run as they stand, and are checked here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from dremioframe.orchestration.machine.states import render_state_diagram

ROOT = Path(__file__).parent.parent


def blocks(document, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def test_the_state_diagram_is_the_transition_table():
    assert render_state_diagram() in blocks("docs/architecture.md", "mermaid")


def test_the_first_page_of_the_readme_runs_as_it_stands(tmp_path):
    (first,) = blocks("README.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", first], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[2, 4, 6]\n"), done.stderr
