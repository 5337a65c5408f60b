"""What commands share: JSON on stdout, how they end, and what long work has kept at Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from textwright.evaluation.kept import KeptResults

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


@contextlib.contextmanager
def keeping(fresh: bool, quiet: bool) -> Iterator[KeptResults]:
    """Give long work the results that it finds and keeps in the cache.

    Says how many parts were there, unless it should be quiet, and after Ctrl-C how to go on.
    """
    from textwright.cli.display import err
    from textwright.evaluation.kept import KeptResults
    from textwright.wording import counted

    kept = KeptResults.in_cache(fresh)
    try:
        yield kept
    except KeyboardInterrupt:
        parts = kept.counts.total()
        how = "the same command, without --fresh," if fresh else "the same command"
        said = f"{counted(parts, 'part')} of the work kept: {how} goes on from there"
        raise KeyboardInterrupt(said if parts else "") from None
    if kept.counts["found"] and not quiet:
        parts = kept.counts["found"]
        err.print(f"Kept from before: {counted(parts, 'part')}; --fresh computes them again.")
