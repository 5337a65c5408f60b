"""Reports of commands, as tables."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from textwright.cli.display.console import out, table
from textwright.wording import clock, counted

if TYPE_CHECKING:
    from textwright.config import Config
    from textwright.evaluation.adherence import Adherence, Interval
    from textwright.evaluation.scores import Scores
    from textwright.export import Exported, HTMLFile
    from textwright.training.cache import CachedCorpus
    from textwright.training.survey import Survey


def show_survey(found: Survey, config: Config) -> None:
    """The report of `textwright corpus`."""
    for choice in found.choices:
        out.print(choice)
    shown = table()
    shown.show_header = False
    parts = ", ".join(f"{count:,} {part}" for part, count in found.parts.items())
    shown.add_row("documents", f"{found.documents:,} ({parts})")
    shown.add_row("characters", f"{found.characters:,}")
    shown.add_row("words", f"{found.words:,}")
    shown.add_row("duplicates", f"{found.duplicates:,}")
    for reason, count in found.dropped.items():
        shown.add_row("dropped", f"{count:,}  {reason}")
    shown.add_row("tokens", f"{found.tokens:,} to train on, vocabulary {found.vocabulary:,}")
    shown.add_row("layout", f"{found.layout} of {counted(config.data.context_length, 'token')}")
    if found.layout == "rows":
        shown.add_row("cut", f"{found.cut:.1%} of the documents are longer than that")
        shown.add_row("padded", f"{found.padded:.1%} of a batch's cells")
    shown.add_row("unknown", f"{found.unknown:.2%} of the tokens")
    estimate = found.estimate
    shown.add_row("an epoch takes", f"about {clock(estimate.seconds_per_epoch)} on this machine")
    shown.add_row("memory", f"about {estimate.memory_bytes / 1e6:,.0f} MB")
    out.print(shown)
    for warning in found.warnings():
        out.print(f"Note: {warning}")


def show_scores(scores: Scores) -> None:
    """The report of `textwright evaluate`."""
    from textwright.evaluation.scores import caution

    low, high = scores.interval
    out.print(
        f"{counted(scores.documents, 'document')}, {counted(scores.tokens, 'token')}\n"
        f"loss                {scores.loss:.4f} nats a token "
        f"(perplexity {scores.perplexity:,.1f})\n"
        f"bits per character  {scores.bits_per_character:.4f} (95 %: {low:.4f} to {high:.4f})\n"
        f"bits per byte       {scores.bits_per_byte:.4f}"
    )
    if scores.row_loss is not None:
        out.print(
            f"within a row        {scores.row_loss:.4f}; "
            f"{scores.padded_loss:.4f} with padding counted"
        )
    if doubt := caution(scores.units):
        out.print(f"Note: {doubt}")


def show_rivals(rivals: list[tuple[str, Scores, float]], floor: float) -> None:
    """Compare models, (name, test scores, seconds of training), with the entropy of the text."""
    columns = ("nats a token", "bits a character", "95 % interval", "training")
    shown = table("on the test notes", *columns)
    for name, scores, seconds in rivals:
        low, high = scores.interval
        bits = f"{scores.bits_per_character:.3f}"
        interval = f"{low:.3f} to {high:.3f}"
        shown.add_row(name, f"{scores.loss:.3f}", bits, interval, clock(seconds))
    shown.add_row("the truth", f"{floor:.3f}", "", "", "")
    out.print(shown)


def show_adherence(adherence: Adherence) -> None:
    """The report of `textwright evaluate --fields`."""

    def cell(value: float | None, interval: Interval | None, form: str) -> str:
        if value is None or interval is None:
            return ""
        low, high = interval
        return f"{value:{form}} ({low:{form}} to {high:{form}})"

    shown = table("field", "found", "preferred (95 %)", "nats saved (95 %)", left=4)
    for name, field in adherence.fields.items():
        shown.add_row(
            name,
            f"{field.found:.0%}",
            cell(field.preferred, field.preferred_interval, ".1%"),
            cell(field.gain, field.gain_interval, "+.3f"),
        )
    out.print(shown)
    out.print(
        f"found: share of {counted(adherence.texts, 'free text')} that have the field; "
        f"{adherence.complete:.0%} have all of them.\n"
        f"preferred, saved: in {counted(adherence.documents, 'held-out document')}, how often and "
        "by how much the true value makes the last field likelier than another document's value; "
        f"{adherence.unparsed:,} more do not parse."
    )


def show_summary(name: str, found: dict[str, Any]) -> None:
    """The parameter table."""
    shown = table("layer", "shape", "parameters", left=2)
    for layer in found["parameters"]["layers"]:
        shape = " + ".join("×".join(map(str, part)) for part in layer["shape"])
        shown.add_row(layer["name"], shape, f"{layer['count']:,}")
    shown.add_row("total", "", f"{found['parameters']['total']:,}", style="bold")
    out.print(shown)
    context = found["context_length"]
    out.print(
        f"vocabulary {found['vocabulary']:,}, "
        + (f"context {counted(context, 'token')}" if context else "context without limit")
    )


def show_cache(
    folder: Path,
    corpora: list[CachedCorpus],
    results: tuple[int, int],
    freed: int,
    cleared: bool,
) -> None:
    """The report of `textwright cache`. results: their parts and bytes · cleared: what is left
    cannot be removed."""
    if corpora:
        shown = table("corpus", "documents", "tokens", "size")
        shown.add_column("last used")
        for corpus in corpora:
            used = datetime.fromtimestamp(corpus.used).strftime("%Y-%m-%d %H:%M")
            counts = (corpus.documents, corpus.tokens)
            sizes = ("" if count is None else f"{count:,}" for count in counts)
            shown.add_row(_names(corpus.files), *sizes, decimal(corpus.bytes), used)
        out.print(shown)
    total = decimal(sum(corpus.bytes for corpus in corpora))
    held = f"{len(corpora):,} encoded {'corpus' if len(corpora) == 1 else 'corpora'}, {total}"
    if cleared and corpora:
        out.print(f"{held}, in {folder} cannot be removed now: in use, or not yours.")
    elif not cleared:
        parts, size = results
        also = f", and {counted(parts, 'part')} of results, {decimal(size)}" if parts else ""
        out.print(f"{held}{also}, in {folder}")
    if freed or cleared:
        out.print(f"Freed {decimal(freed)} in {folder}.")


def _names(files: list[str], most: int = 3) -> str:
    if not files:
        return "(damaged, or of an older version)"
    more = f" and {len(files) - most:,} more" if len(files) > most else ""
    return ", ".join(files[:most]) + more


def show_export(exported: Exported) -> None:
    """The exported files, and how far they are from the run."""
    out.print(f"{exported.out}: {', '.join(exported.files)}")
    difference = exported.largest_difference
    out.print(f"Read back, log-probabilities differ by {difference:.2g} nats at most.")
    if exported.without_counts:
        out.print(
            "The counts stay behind: the export is the neural model alone, as it was compared."
        )


def show_html_export(page: HTMLFile) -> None:
    """The written page, what its weights cost, and what it cannot do."""
    out.print(f"{page.out}: {page.bytes / 1e6:.2f} MB, opens in any browser.")
    if page.characters:
        out.print(
            f"int8 weights cost {page.cost:.5f} bits per character, measured on "
            f"{page.characters:,} characters."
        )
    if page.left_out:
        out.print(f"The page writes without {' and '.join(page.left_out)}, which the run sets.")
