"""Output and exit codes: of one of several processes, as JSON, on Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any, NoReturn

import typer

INTERRUPTED = 130  # the exit code that shells give to what Ctrl-C stopped


def speaks() -> bool:
    """True in the first of several processes on one training."""
    return os.environ.get("RANK", "0") == "0"


def leave(code: int) -> NoReturn:
    """End with this exit code. One of several processes ends at once: an orderly exit may wait for
    the others, which may have died or not know yet."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # its reader has gone
            stream.flush()
    os._exit(code)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1))
