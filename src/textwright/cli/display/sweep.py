"""A sweep, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from textwright.cli.display.console import out
from textwright.report.sweep import COLUMNS, table_rows

if TYPE_CHECKING:
    from textwright.evaluation.sweep import Sweep


def show_sweep(sweep: Sweep) -> None:
    """The report of `textwright sweep`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(COLUMNS):
        table.add_column(title, justify="right" if number else "left")
    recommended = [each.setting == sweep.recommended for each in sweep.results]
    for row, chosen in zip(table_rows(sweep), [False, *recommended], strict=True):
        table.add_row(*row, style="bold" if chosen else None)
    out.print(table)
    out.print(
        f"Each of {sweep.texts:,} texts of at most {sweep.max_tokens:,} tokens; distinct-2 to "
        "loops of equally many words. What the columns mean: textwright sweep --help.\n"
        f"Judge: {sweep.judge}.\n"
        f"Recommended: {sweep.reason}"
    )
