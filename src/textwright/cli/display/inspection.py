"""What a run expects of a text, and what it looks at, on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.text import Text

from textwright.cli.display.console import out, table
from textwright.inspection.text import FULL_BITS, MAGNITUDES, Floats, Reading
from textwright.wording import harmless, one_line

if TYPE_CHECKING:
    from textwright.inspection.next_tokens import Candidate, NextTokens
    from textwright.inspection.surprisal import Surprisal
    from textwright.inspection.units import TellingUnits

BAR = 20  # characters of the bar for a share of 1
DARK = 0.6  # shade from which letters are white
MORE, LESS = (194, 65, 12), (37, 99, 235)  # colors of shades: orange; blue for what is below 0


def show_readings(readings: Sequence[Reading], views: Sequence[str]) -> None:
    """Each text, with a table or a shaded text for each view."""
    for reading in readings:
        out.print(f"\n{one_line(reading.next.context) or '(start of a text)'}", style="bold")
        if reading.note:
            out.print(reading.note, style="dim")
        if "next" in views:
            _show_next(reading.next)
        if reading.surprisal is not None:
            _show_surprisal(reading.surprisal, reading.gap)
        for number, heads in enumerate(reading.attention or [], 1):
            _show_attention(number, heads, reading)
        for number, layer in enumerate(reading.gates or [], 1):
            _show_gates(number, layer, reading.shown)
        if reading.saliency is not None:
            _show_saliency(reading)


def show_units(telling: TellingUnits) -> None:
    """Units that tell something, with the evidence."""
    if telling.units:
        shown = table("unit", "tells", "correlation", "in other text", "p", left=2)
        for unit in telling.units:
            shown.add_row(
                unit.name,
                unit.tells,
                f"{unit.found:+.2f}",
                f"{unit.confirmed:+.2f}",
                f"{unit.p:.3f}",
            )
        out.print(shown)
    else:
        out.print("No unit tells more than chance allows.")
    out.print(telling.evidence, style="dim")


def _show_next(step: NextTokens) -> None:
    shown = table()
    for temperature in step.next:
        entropy = step.entropy[temperature]
        shown.add_column(f"T = {temperature:g}  ({entropy:.2f} nats)", min_width=24)
    for row in zip(*step.next.values(), strict=True):
        shown.add_row(*(f"{c.probability:7.2%}  {c.shown}{_parts(c)}" for c in row))
    out.print(shown)
    if step.shares:
        neural, counts, memory = (f"{share:.0%}" for share in step.shares)
        out.print(
            f"In brackets: by the model (its share here is {neural}), by the counts of the corpus "
            f"together with it ({counts}), by those of this text ({memory}).",
            style="dim",
        )


def _parts(token: Candidate | Surprisal) -> str:
    """The probabilities of a mixture's parts."""
    parts = [token.neural, token.counts, token.memory]
    shown = ", ".join(f"{part:.1%}" for part in parts if part is not None)
    return f"  ({shown})" if shown else ""


def _show_surprisal(text: Sequence[Surprisal], gap: str) -> None:
    """The text shaded by its bits, and a line for each token."""
    if not text:
        out.print("The text is empty, so it has no surprisal.")
        return
    _show_shaded([token.text for token in text], [token.bits / FULL_BITS for token in text], gap)
    temperature = next(iter(text[0].entropy))
    shown = table("token", "bits", "rank", f"entropy (T = {temperature:g})")
    shown.add_column("likelier")
    for token in text:
        likelier = ", ".join(f"{c.shown} {c.probability:.0%}" for c in token.likelier)
        entropy = f"{token.entropy[temperature]:.2f} nats"
        shown.add_row(
            token.shown, f"{token.bits:.2f}{_parts(token)}", f"{token.rank:,}", entropy, likelier
        )
    out.print(shown)
    bits = sum(token.bits for token in text)
    mixed = ""
    if text[0].neural is not None:
        mixed = "; in brackets, the probability by the model, by the counts with it, by this text"
    out.print(f"{bits:,.1f} bits, {bits / len(text):.2f} a token{mixed}", style="dim")


def _show_gates(number: int, layer: dict[str, Floats], read: Sequence[str]) -> None:
    """The gates of one layer, a line for each token; quantities with a sign by their magnitude."""
    shown = table(f"layer {number}", *(MAGNITUDES.get(name, name) for name in layer))
    columns = [np.abs(units).mean(1) for units in layer.values()]
    for token, *values in zip(read, *columns, strict=True):
        shown.add_row(token, *(f"{value:.3f}" for value in values))
    out.print(shown)


def _show_attention(number: int, heads: Floats, reading: Reading) -> None:
    """Shares of attention of one layer's heads when the last token is read, a line for each token,
    with a bar for the mean."""
    newest = heads[:, -1]
    mean = newest.mean(0)
    _show_shaded(reading.texts, (mean / mean.max()).tolist(), reading.gap)
    names = (f"head {head}" for head in range(1, len(heads) + 1))
    shown = table(f"layer {number}", *names, "mean")
    shown.add_column("")
    for token, *shares in zip(reading.shown, *newest, mean, strict=True):
        bar = "█" * round(shares[-1] * BAR)
        shown.add_row(token, *(f"{share:.1%}" for share in shares), bar)
    out.print(shown)


def _show_saliency(reading: Reading) -> None:
    """What each token adds to the log-probability of the likeliest next one."""
    assert reading.saliency is not None
    newest = reading.saliency[-1]
    most = max(float(np.abs(newest).max()), 1e-12)
    coming = next(iter(reading.next.next.values()))[0]
    _show_shaded(reading.texts, (newest / most).tolist(), reading.gap)
    shown = table("saliency", f"for {coming.shown}")
    shown.add_column("")
    for token, nats in zip(reading.shown, newest, strict=True):
        bar = ("█" if nats > 0 else "░") * round(abs(nats) / most * BAR)
        shown.add_row(token, f"{nats:+.3f}", bar)
    out.print(shown)
    out.print("In nats; where above zero, the token makes the next one likelier.", style="dim")


def _show_shaded(texts: Sequence[str], levels: Sequence[float], gap: str) -> None:
    """A text, each token on a shade of its level: from 0 to 1 in orange, from 0 to −1 in blue.
    Nothing where colors cannot be shown."""
    if out.color_system is None:
        return
    shaded = Text()
    for text, level in zip(texts, levels, strict=True):
        strength = min(1.0, abs(level))
        target = MORE if level > 0 else LESS
        red, green, blue = (round(255 + (part - 255) * strength) for part in target)
        ink = "white" if strength > DARK else "black"
        shaded.append(
            harmless(text).replace("\n", "⏎\n"), f"{ink} on #{red:02x}{green:02x}{blue:02x}"
        )
        shaded.append(gap)
    out.print(shaded)
