"""Where all is printed: results on `out`, all else on `err`."""

import os
import sys

from rich.console import Console


def _width() -> int | None:
    return None if sys.stdout.isatty() or "COLUMNS" in os.environ else 500


# Texts, paths and reasons come from users: their brackets are no markup, their :names: no emoji.
# What is redirected has room for every column of a table.
out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False, width=_width())
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def clock(seconds: float) -> str:
    """Seconds as 1:23 or 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
