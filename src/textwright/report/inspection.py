"""What a run expects of texts and looks at in them, as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from textwright.inspection.surprisal import Surprisal
from textwright.inspection.text import FULL_BITS, MAGNITUDES, Floats, Reading
from textwright.report.heat_map import heat_map, thumbnails
from textwright.report.page import Block, Figure, Heading, Paragraph, Section, Table, write_page
from textwright.report.shading import BEHAVIOR, LookingBack, ShadedText
from textwright.run import Run

if TYPE_CHECKING:
    from textwright.inspection.units import TellingUnits


def write_inspection(
    path: Path, run: Run, readings: Sequence[Reading], telling: TellingUnits | None = None
) -> None:
    """Write the page. Raises ReportError if it cannot be written."""
    model = run.config.model
    lead = f"{model.title}: {model.describe(run.config.data.context_length)}."
    *sections, last = reading_sections(readings, telling)
    sections.append(Section(last.title, [*last.blocks, BEHAVIOR]))
    write_page(f"Inside {run.path.resolve().name}", sections, path, lead)


def reading_sections(
    readings: Sequence[Reading], telling: TellingUnits | None = None
) -> list[Section]:
    """A section for each view that was taken, with a part for each text. A page that takes them
    ends with `shading.BEHAVIOR`."""
    sections = []
    for title, (words, show) in VIEWS.items():
        blocks: list[Block] = []
        for reading in readings:
            shown = show(reading)
            if shown and len(readings) > 1:
                blocks.append(Heading(_name(reading)))
            blocks += shown
        if blocks:
            sections.append(Section(title, [Paragraph(words), *blocks]))
    if telling:
        sections.append(Section("Units that tell something", _units(readings, telling)))
    return sections


def _next(reading: Reading) -> list[Block]:
    after = reading.next
    columns = ["", *(f"T = {t:g} ({entropy:.2f} nats)" for t, entropy in after.entropy.items())]
    rows = [
        [str(rank), *(f"{c.shown} {c.probability:.2%}" for c in candidates)]
        for rank, candidates in enumerate(zip(*after.next.values(), strict=True), 1)
    ]
    note = [Paragraph(reading.note)] if reading.note else []
    caption = f"After “{_name(reading)}”, with the entropy at each temperature."
    return [*note, Table(columns, rows, caption)]


def _surprisal(reading: Reading) -> list[Block]:
    text = reading.surprisal
    if not text:
        return []
    temperature = next(iter(text[0].entropy))
    says = []
    for token in text:
        likeliest = (f"{c.probability:.1%}  {c.shown}" for c in token.next[temperature])
        says.append(
            f"“{token.shown}”: {token.bits:.2f} bits, rank {token.rank:,}{_parts(token)}\n"
            f"expected at T = {temperature:g}, entropy {token.entropy[temperature]:.2f} nats:\n"
            + "\n".join(likeliest)
        )
    columns = ["token", "bits", "rank", "entropy, nats", "likelier"]
    rows = [
        [
            token.shown,
            f"{token.bits:.2f}",
            f"{token.rank:,}",
            f"{token.entropy[temperature]:.2f}",
            ", ".join(f"{c.shown} {c.probability:.0%}" for c in token.likelier),
        ]
        for token in text
    ]
    bits = sum(token.bits for token in text)
    words = f"The text costs {bits:,.1f} bits, {bits / len(text):.2f} a token."
    shaded = ShadedText(
        [token.text for token in text],
        [min(1.0, token.bits / FULL_BITS) for token in text],
        says,
        reading.gap,
        "The text, shaded by surprisal",
        Table(columns, rows),
    )
    return [Paragraph(words), shaded]


def _attention(reading: Reading) -> list[Block]:
    if not reading.attention:
        return []
    means = [layer.mean(0) for layer in reading.attention]
    looks = {"mean over layers and heads": np.mean(means, 0)}
    if len(means) > 1:
        looks |= {f"layer {number}, mean over heads": of for number, of in enumerate(means, 1)}
    heads = {
        f"layer {number}, head {head}": values
        for number, layer in enumerate(reading.attention, 1)
        for head, values in enumerate(layer, 1)
    }
    names = reading.shown
    mean = _by_row(next(iter(looks.values())))
    return [
        LookingBack(
            reading.texts,
            names,
            looks | heads,
            [f"attention when “{name}” is read:" for name in names],
            reading.gap,
            "The text, shaded by attention",
            percent=True,
        ),
        Figure(
            heat_map(mean, names, names, "Attention, mean over layers and heads"),
            "Mean over layers and heads.",
        ),
        Figure(
            thumbnails({name: _by_row(head) for name, head in heads.items()}),
            "Each head.",
        ),
    ]


def _saliency(reading: Reading) -> list[Block]:
    if reading.saliency is None:
        return []
    names = reading.shown
    coming = [*names[1:], next(iter(reading.next.next.values()))[0].shown]
    return [
        LookingBack(
            reading.texts,
            names,
            {"saliency": reading.saliency},
            [f"for “{token}” after “{name}”:" for name, token in zip(names, coming, strict=True)],
            reading.gap,
            "The text, shaded by saliency",
            percent=False,
        ),
    ]


def _gates(reading: Reading) -> list[Block]:
    blocks: list[Block] = []
    for number, layer in enumerate(reading.gates or [], 1):
        means = {MAGNITUDES.get(name, name): np.abs(units).mean(1) for name, units in layer.items()}
        rows = np.stack([(row - row.min()) / max(np.ptp(row), 1e-12) for row in means.values()])
        title = f"Layer {number}: each quantity over the text"
        blocks.append(Figure(heat_map(rows, list(means), reading.shown, title), title))
    return blocks


def _units(readings: Sequence[Reading], telling: TellingUnits) -> list[Block]:
    if not telling.units:
        return [Paragraph("No unit tells more than chance allows."), Paragraph(telling.evidence)]
    rows = [
        [unit.name, unit.tells, f"{unit.found:+.2f}", f"{unit.confirmed:+.2f}", f"{unit.p:.3f}"]
        for unit in telling.units
    ]
    columns = ["unit", "tells", "correlation", "in other text", "p"]
    blocks: list[Block] = [Table(columns, rows), Paragraph(telling.evidence)]
    for reading in readings:
        if reading.gates:
            layers = reading.gates
            values = np.stack(
                [layers[u.layer - 1][telling.quantity][:, u.unit - 1] for u in telling.units]
            )
            names = [f"{u.layer}.{u.unit} {u.tells.removeprefix('the ')}" for u in telling.units]
            title = f"The units over “{_name(reading)}”"
            caption = (
                f"{title}: their {telling.quantity} after each token, each row relative to its "
                "largest value; in the other color where it is below 0."
            )
            blocks.append(Figure(heat_map(_by_row(values), names, reading.shown, title), caption))
    return blocks


def _parts(token: Surprisal) -> str:
    """What the parts of a mixture gave to a token."""
    if token.neural is None:
        return ""
    return (
        f"; probability {token.neural:.1%} by the model, {token.counts:.1%} by the counts with it, "
        f"{token.memory:.1%} by this text"
    )


def _by_row(values: Floats) -> Floats:
    """A matrix with each row divided by the size of its largest value."""
    scaled: Floats = values / np.maximum(np.abs(values).max(1, keepdims=True), 1e-12)
    return scaled


def _name(reading: Reading) -> str:
    return reading.next.context.replace("\n", "⏎") or "(start of a text)"


VIEWS = {  # title → how it is to be read, and what shows it
    "What comes next": (
        "The likeliest tokens after each text. A colder temperature sharpens the distribution: "
        "p^(1/T), normalized.",
        _next,
    ),
    "Surprisal": (
        "The darker a token, the more bits it costs: −log₂ of the probability that it had. The "
        f"shade is full at {FULL_BITS:g} bits.",
        _surprisal,
    ),
    "Attention": (
        "Choose a token: the tokens that the model looks at when it reads this one are shaded, the "
        "darkest where most of the attention goes. Heat maps have a row for the token that is read "
        "and a column for each token that it looks at, relative to the largest share in the row.",
        _attention,
    ),
    "Saliency": (
        "Choose a token: it and the tokens before it are shaded by what they add to the "
        "log-probability of the token that follows (gradient × input, in nats), in the other color "
        "where they take away. After the last token, the likeliest next one is meant. Counts "
        "beside a neural model have no part in it.",
        _saliency,
    ),
    "Gates": (
        "The quantities of each layer's cells after each token, as means over the units (of "
        "magnitudes, where they can be below 0), each row from its smallest value to its largest.",
        _gates,
    ),
}
