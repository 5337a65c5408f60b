"""How far runs follow a distant cue, on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from textwright.cli.display.console import out
from textwright.wording import counted

if TYPE_CHECKING:
    from textwright.inspection.cues import CueCurve


def show_cues(curves: Sequence[CueCurve], pairs: int, columns: Sequence[str]) -> None:
    """A table for each run, with a line for each distance."""
    for curve in curves:
        out.print(f"\n{curve.run}", style="bold")
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in columns:
            table.add_column(title, justify="right")
        for row in curve.rows():
            table.add_row(*row)
        out.print(table)
    out.print(
        f"\n{counted(pairs, 'pair')}. Distance: tokens after the cue. Divergence: between the "
        "two predictions (Jensen–Shannon, 0 to 1 bit). Saved: bits that the true cue saves on the "
        "next token. Attention, saliency: the cue's share. In brackets, 95 % of resampled pairs.",
        style="dim",
    )
