"""Comparisons and audits on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.filesize import decimal

from textwright.cli.display.console import out, table
from textwright.report.comparison import short_names, verdict
from textwright.wording import counted, signed

if TYPE_CHECKING:
    from textwright.comparison.audit import Audit
    from textwright.comparison.comparison import Comparison, Score


def show_comparison(comparison: Comparison) -> None:
    """The table of `textwright compare`, and its protocol."""
    names = short_names([model.name for model in comparison.models])
    columns = ("bits a character", "95 %", "tokens/s", "on the disk", "distinct 2", "self-BLEU")
    shown = table("model", *columns)
    for model in comparison.models:
        speed = model.written.tokens_per_second
        shown.add_row(
            names[model.name],
            *_cells(model.score),
            f"{speed:,.0f}" if speed else "",
            decimal(model.bytes) if model.bytes else "",
            f"{model.diversity.distinct_2:.3f}",
            f"{model.diversity.self_bleu:.3f}",
        )
    for easy in comparison.easy:
        shown.add_row(easy.name, *_cells(easy.score))
    real = comparison.real
    shown.add_row(*["real text", *[""] * 4, f"{real.distinct_2:.3f}", f"{real.self_bleu:.3f}"])
    out.print(shown)
    for pair in comparison.pairs:
        low, high = pair.interval
        out.print(
            f"{names[pair.a]} − {names[pair.b]}: {signed(pair.difference, '.4f')} "
            f"({signed(low, '.4f')} to {signed(high, '.4f')})"
        )
    out.print(verdict(comparison))
    _show_protocol(comparison.protocol())
    for model in comparison.models:
        out.print(f"{names[model.name]}: {'; '.join([model.context, *model.remarks])}")
    for sentence in comparison.left_out:
        out.print(f"Note: {sentence}")


def show_audit(audit: Audit) -> None:
    """The report of `textwright bits`."""
    from textwright.comparison.audit import NO_PROOF

    score, proof = audit.score, audit.proof
    low, high = score.interval
    out.print(
        f"bits per character  {score.bits_per_character:.4f} (95 %: {low:.4f} to {high:.4f})\n"
        f"bits per byte       {score.bits_per_byte:.4f}"
    )
    _show_protocol(audit.protocol())
    for remark in audit.remarks:
        out.print(f"{audit.name}: {remark}")
    if proof is None:
        out.print(NO_PROOF)
        return
    out.print(
        f"Proof: {counted(proof.documents, 'text')} of {counted(proof.characters, 'character')} "
        f"({proof.bytes:,} bytes) restored byte for byte by a decoder from {proof.bits:,} bits, "
        f"where {proof.charged:,.1f} are charged: at most {proof.largest:.2f} bits beyond the "
        "charge in one text (2 are allowed)."
    )


def _show_protocol(protocol: dict[str, str]) -> None:
    for name, text in protocol.items():
        out.print(f"{name}: {text}")


def _cells(score: Score) -> tuple[str, str]:
    low, high = score.interval
    return f"{score.bits_per_character:.4f}", f"{low:.4f} to {high:.4f}"
