"""What a command says to the shell: as one of several processes, as JSON, on Ctrl-C."""

from __future__ import annotations

import json
import os
from typing import Any

import typer

INTERRUPTED = 130  # the exit code of what Ctrl-C stopped, as shells give it


def speaks() -> bool:
    """Of several processes on one training, the first."""
    return os.environ.get("RANK", "0") == "0"


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1))
