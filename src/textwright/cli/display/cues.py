"""How far runs follow a distant cue, on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textwright.cli.display.console import out, table
from textwright.wording import counted

if TYPE_CHECKING:
    from textwright.inspection.cues import CueCurve


def show_cues(curves: Sequence[CueCurve], pairs: int, columns: Sequence[str]) -> None:
    """A table for each run, with a line for each distance."""
    for curve in curves:
        out.print(f"\n{curve.run}", style="bold")
        shown = table(*columns, left=0)
        for row in curve.rows():
            shown.add_row(*row)
        out.print(shown)
    out.print(
        f"\n{counted(pairs, 'pair')}. Distance: tokens after the cue. Divergence: between the "
        "two predictions (Jensen–Shannon, 0 to 1 bit). Saved: bits that the true cue saves on the "
        "next token. Attention, saliency: the cue's share. In brackets, 95 % of resampled pairs.",
        style="dim",
    )
