"""Where all is printed: results on `out`, all else on `err`."""

import os
import sys

from rich.console import Console
from rich.table import Table


def _width() -> int | None:
    return None if sys.stdout.isatty() or "COLUMNS" in os.environ else 500


# Texts, paths and reasons come from users: their brackets are no markup, their :names: no emoji.
# What is redirected has room for every column of a table.
out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False, width=_width())
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def table(*titles: str, left: int = 1) -> Table:
    """A table without lines. Its columns stand to the right, but for the first `left` ones."""
    found = Table(box=None, pad_edge=False)
    for place, title in enumerate(titles):
        found.add_column(title, justify="left" if place < left else "right")
    return found
