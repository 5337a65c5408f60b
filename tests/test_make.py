"""What `make` does before anything runs."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_an_environment_is_compiled_when_it_is_made():
    """Else every start compiles torch, where Python may not write bytecode."""
    if shutil.which("make") is None or not (ROOT / "Makefile").exists():
        pytest.skip("needs make, and a copy of the repository")
    planned = subprocess.run(
        ["make", "--dry-run", "--always-make", ".venv/installed"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"pip install(?s:.*)-m compileall .* \.venv/lib src", planned.stdout)
