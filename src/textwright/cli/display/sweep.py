"""A sweep, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textwright.cli.display.console import out, table
from textwright.report.sweep import COLUMNS, table_rows

if TYPE_CHECKING:
    from textwright.sweep.sweep import Sweep


WIDE = 116  # columns of a terminal that has room for the whole table
NARROW = ("", "distance", "nearest", "bits/char", "self-BLEU", "repetition", "new")


def show_sweep(sweep: Sweep) -> None:
    """The report of `textwright sweep`; a narrow terminal gets what matters most."""
    columns = COLUMNS if out.width >= WIDE else NARROW
    shown = table(*columns)
    recommended = [each.setting == sweep.recommended for each in sweep.results]
    for row, chosen in zip(table_rows(sweep), [False, *recommended], strict=True):
        cells = dict(zip(COLUMNS, row, strict=True))
        shown.add_row(*(cells[title] for title in columns), style="bold" if chosen else None)
    out.print(shown)
    out.print(
        f"Each of {sweep.texts:,} texts of at most {sweep.max_tokens:,} tokens. What the columns "
        "mean: textwright sweep --help.\n"
        f"Judge: {sweep.judge}.\n"
        f"Recommended: {sweep.reason}"
    )
