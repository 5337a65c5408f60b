"""Memorisation in words and tables: the same for the terminal and for a page."""

from __future__ import annotations

from textwright.evaluation.resampling import Compared
from textwright.memorisation.capability import GIVEN, WRITTEN, Band, Capability
from textwright.memorisation.memorisation import AtCheckpoint, Memorisation
from textwright.memorisation.propensity import Propensity
from textwright.memorisation.training_text import Place, Span
from textwright.report.charts import Curve, line_chart
from textwright.report.page import Block, Figure, Paragraph, Section, Table
from textwright.wording import counted, one_line, signed

COLUMNS = ("", "run", "held-out text", "difference (95 %)")
CONTINUED = f"after the first {GIVEN} characters, the next {WRITTEN}"
CAPABILITY_COLUMNS = ("", "training", "held-out", "difference (95 %)")


def section(found: Memorisation) -> Section:
    """A section of a report."""
    blocks: list[Block] = [
        Paragraph(opening(found)),
        Paragraph(verdict(found)),
        *(
            Table(COLUMNS, propensity_rows(measured), f"What it writes {setting}")
            for setting, measured in settings(found).items()
        ),
    ]
    copied = found.own.copied or found.temperature_1.copied
    if copied:
        columns = ("longest copied span", "characters", "occurrences", "first source")
        blocks.append(Table(columns, [span_row(span) for span in copied], "Where it comes from"))
    blocks += [
        Table(
            CAPABILITY_COLUMNS,
            capability_rows(found.capability),
            f"{CONTINUED.capitalize()} of a document",
        ),
        Paragraph(alarm_sentence(found.capability)),
        Table(BAND_COLUMNS, band_rows(found.capability), "By how often a passage is in training"),
    ]
    if found.checkpoints:
        rows = checkpoint_rows(found.checkpoints)
        if len(rows) > 1:
            blocks += _curves(found)
        blocks.append(Table(CHECKPOINT_COLUMNS, rows, "At each checkpoint that is kept"))
    return Section("Memorisation", blocks)


def _curves(found: Memorisation) -> list[Block]:
    """What is copied, and what could be, over the steps of training."""
    copied = [(each.step, each.propensity.longest) for each in found.checkpoints]
    spans = line_chart(
        [
            Curve(
                "what it writes", [(step, longest.run) for step, longest in copied], 0, dots=True
            ),
            Curve("held-out text", [(step, longest.held_out) for step, longest in copied], 4),
        ],
        x="steps of training",
        y="characters of the longest copied span of a text, mean",
        title="What it copies, by step",
        description="The table below has the numbers.",
    )
    known = [(each.step, 100 * each.capability.memorized) for each in found.checkpoints]
    alarms = [(each.step, 100 * each.capability.false_alarms) for each in found.checkpoints]
    memorized = line_chart(
        [
            Curve("passages of the training text", known, 0, dots=True),
            Curve("never-seen ones would be (false alarms)", alarms, 4),
        ],
        x="steps of training",
        y="memorized, %",
        title="What it could be made to copy, by step",
        description="The table below has the numbers.",
    )
    best = [f"{each.step:,}" for each in found.checkpoints if each.best]
    saved = f"The weights of step {best[0]} are the run's." if best else ""
    return [Figure(spans, "What it copies by itself, by step"), Figure(memorized, saved)]


def opening(found: Memorisation) -> str:
    """What was searched."""
    return (
        f"{counted(found.documents, 'training document')} ({counted(found.characters, 'character')}"
        f"; text and suffix array take {found.memory_bytes / 1e6:,.0f} MB), "
        f"{found.held_out:,} held out."
    )


def verdict(found: Memorisation) -> str:
    """The result in two sentences: what the run copies, and whether it could be made to."""
    capability = found.capability
    if found.own.texts > 1:
        copies = f"It copies {_beside_held_out(found.own.longest)}"
    elif found.temperature_1.texts > 1:
        copies = f"At temperature 1, it copies {_beside_held_out(found.temperature_1.longest)}"
    else:
        copies = (
            "It wrote one text, which is too few to tell whether it copies more than others do."
        )
    knows = "no more than chance would have it"
    if capability.memorized > 3 * capability.false_alarms:
        knows = f"of never-seen ones, {capability.false_alarms:.1%} would be"
    memorized = f"{capability.memorized:.1%} are memorized ({knows})"
    return f"{copies} Of passages of the training text, {memorized}."


def _beside_held_out(longest: Compared) -> str:
    low, high = longest.interval
    if low > 0:
        than = (
            f"more than held-out text repeats: {counted(round(longest.excess), 'character')} more"
        )
    elif high < 0:
        than = (
            f"less than held-out text repeats: {counted(round(-longest.excess), 'character')} less"
        )
    else:
        than = "no more than held-out text repeats: about as many characters"
    return f"{than} in the longest span of a text, on average."


def settings(found: Memorisation) -> dict[str, Propensity]:
    """What it writes, by the setting of sampling in words."""
    if found.own == found.temperature_1:
        return {"at temperature 1, its own settings": found.own}
    return {"at temperature 1": found.temperature_1, "at its own settings": found.own}


def propensity_rows(found: Propensity) -> list[list[str]]:
    """A row for each measurement of what is written."""
    several = found.texts > 1  # one, drawn again, is always the same
    rows = [["characters of the longest copied span", *_cells(found.longest, ".1f", several)]]
    written, held_out = found.longest_of_all
    rows.append(["… of all texts", str(written), str(held_out), ""])
    for kind, lengths in found.novel.items():
        for length, novel in lengths.items():
            rows.append([f"new sequences of {length} {kind}", *_cells(novel, ".1%", several)])
    return rows


def capability_rows(found: Capability) -> list[list[str]]:
    """A row for each measurement of how passages are continued."""
    return [
        ["passages", *(f"{count:,}" for count in found.passages), ""],
        ["bits a character", *_cells(found.bits, ".3f")],
        ["written exactly by greedy decoding", *_cells(found.greedy, ".1%")],
        ["mean probability at temperature 1", *_chances(found.written)],
        ["mean probability at the run's own settings", *_chances(found.own)],
    ]


BAND_COLUMNS = (
    "times in training",
    "passages",
    "bits a character",
    "by greedy decoding",
    "memorized",
)


def band_rows(found: Capability) -> list[list[str]]:
    """A row for each band of repetition."""
    return [
        [
            _times(band),
            f"{band.passages:,}",
            f"{band.bits:.3f}",
            f"{band.greedy:.1%}",
            f"{band.memorized:.1%}",
        ]
        for band in found.bands
    ]


CHECKPOINT_COLUMNS = (
    "step",
    "longest span",
    "difference from held-out",
    "bits saved a character",
    "memorized",
)


def checkpoint_rows(checkpoints: list[AtCheckpoint]) -> list[list[str]]:
    """A row for each checkpoint: a curve, where many are kept."""
    return [
        [
            f"{each.step:,}{' (best)' if each.best else ''}",
            f"{each.propensity.longest.run:.1f}",
            signed(each.propensity.longest.excess, ".1f"),
            signed(-each.capability.bits.excess, ".3f"),
            f"{each.capability.memorized:.1%}",
        ]
        for each in checkpoints
    ]


def alarm_sentence(found: Capability) -> str:
    """When a passage is called memorized, and how often that is wrong."""
    return (
        f"Memorized: {found.memorized:.1%} of the training passages cost less than "
        f"{found.alarm:.3f} bits a character, as {found.false_alarms:.1%} of passages that were "
        "never seen would (the rate of false alarms)."
    )


def span_row(span: Span) -> list[str]:
    """A copied span with its first source."""
    source = place_in_words(span.sources[0]) if span.sources else ""
    return [one_line(span.text), f"{span.characters:,}", f"{span.occurrences:,}", source]


def place_in_words(place: Place) -> str:
    """document 12, character 340: “How it begins…”"""
    return f"document {place.document:,}, character {place.offset:,}: “{one_line(place.heading)}…”"


def _times(band: Band) -> str:
    if band.most is None:
        return f"{band.least} or more"
    return str(band.least) if band.least == band.most else f"{band.least} to {band.most}"


def _chances(compared: Compared) -> list[str]:
    """As `_cells`, for probabilities that may be tiny; such have no difference worth reading."""
    if max(compared.run, compared.held_out) >= 0.001:
        return _cells(compared, ".2%")
    return [_chance(compared.run), _chance(compared.held_out), ""]


def _chance(probability: float) -> str:
    return f"1 in {1 / probability:,.0f}" if probability > 1e-12 else "below 1 in 10^12"


def _cells(compared: Compared, form: str, interval: bool = True) -> list[str]:
    difference = signed(compared.excess, form)
    if interval:
        low, high = compared.interval
        difference += f" ({signed(low, form)} to {signed(high, form)})"
    return [f"{compared.run:{form}}", f"{compared.held_out:{form}}", difference]
