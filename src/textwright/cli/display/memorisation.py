"""The reports of `textwright memorisation`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textwright.cli.display.console import out, table
from textwright.report import memorisation as words
from textwright.wording import counted, one_line

if TYPE_CHECKING:
    from textwright.memorisation.memorisation import Memorisation, Traced


def show_memorisation(found: Memorisation) -> None:
    """All measurements, each beside held-out text."""
    out.print(f"{words.opening(found)}\n\n{words.verdict(found)}")
    capability = found.capability
    for setting, measured in words.settings(found).items():
        _show(setting, words.COLUMNS, words.propensity_rows(measured))
    for span in found.own.copied or found.temperature_1.copied:
        text, characters, occurrences, source = words.span_row(span)
        out.print(f"\n“{text}”\n  {characters} characters, {occurrences}× in training; {source}")
    _show(words.CONTINUED, words.CAPABILITY_COLUMNS, words.capability_rows(capability))
    out.print(words.alarm_sentence(capability))
    _show("", words.BAND_COLUMNS, words.band_rows(capability))
    if found.checkpoints:
        _show("", words.CHECKPOINT_COLUMNS, words.checkpoint_rows(found.checkpoints))


def show_traced(traced: Traced) -> None:
    """Where a text comes from."""
    share = traced.copied / max(1, traced.characters)
    out.print(
        f"{traced.copied:,} of {counted(traced.characters, 'character')} ({share:.0%}) stand in "
        f"the training text, in {counted(len(traced.spans), 'span')}."
    )
    for span in traced.spans:
        out.print(f"\n“{one_line(span.text)}”")
        out.print(
            f"  {counted(span.characters, 'character')} from character {span.start:,} on, "
            f"{span.occurrences:,}× in training"
        )
        for place in span.sources:
            out.print(f"  {words.place_in_words(place)}", style="dim")
    if traced.bits is not None and traced.false_alarms is not None:
        known = "memorized" if traced.memorized else "not memorized"
        out.print(
            f"\n{words.CONTINUED.capitalize()}: {traced.bits:.3f} bits a character, {known} "
            f"(false alarms: {traced.false_alarms:.1%} of never-seen texts)."
        )


def _show(name: str, columns: Sequence[str], rows: list[list[str]]) -> None:
    first, *others = columns
    shown = table(name or first, *others)
    for row in rows:
        shown.add_row(*row)
    out.print()
    out.print(shown)
