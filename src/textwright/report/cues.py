"""How far runs follow a distant cue, as a page with the runs in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textwright.inspection.cues import COLUMNS, CueCurve, Pair
from textwright.report.charts import Curve, line_chart
from textwright.report.page import (
    Block,
    Excerpt,
    Excerpts,
    Figure,
    Paragraph,
    Section,
    Table,
    write_page,
)
from textwright.wording import counted

MEASURES = {  # name in Following → title and unit of its picture
    "divergence": ("How far apart the two predictions are", "Jensen–Shannon divergence, bits"),
    "saved": ("What the true cue saves on the next token", "bits"),
    "saliency": ("The cue's share of saliency", "share"),
    "attention": ("The cue's share of attention", "share"),
}


def write_cues(path: Path, curves: Sequence[CueCurve], pairs: Sequence[Pair]) -> None:
    """Write the page. Raises ReportError if it cannot be written."""
    lead = (
        f"{counted(len(pairs), 'pair')} of texts that differ in one place, the cue, and go on "
        "alike. What changes after it?"
    )
    write_page("Does a distant word change what comes?", cue_sections(curves, pairs), path, lead)


def cue_sections(curves: Sequence[CueCurve], pairs: Sequence[Pair]) -> list[Section]:
    """Pictures of the four measures, the numbers of each run, and a pair as an example."""
    figures: list[Block] = []
    for name, (title, unit) in MEASURES.items():
        lines = [
            Curve(curve.run, points, number, dots=True)
            for number, curve in enumerate(curves)
            if (points := _points(curve, name))
        ]
        if lines:
            description = f"{title} against the distance from the cue, a curve for each run."
            drawing = line_chart(
                lines,
                x="tokens after the cue",
                y=unit,
                title=title,
                description=description,
                log_x=True,
            )
            figures.append(Figure(drawing, title, description))
    tables = [Table(COLUMNS, curve.rows(), curve.run) for curve in curves]
    words = (
        "In brackets, 95 % of resampled pairs. Divergence: 0 where the cue changes nothing, 1 "
        "where the predictions have nothing in common. Saved: by the cue that the text was written "
        "with, against the other one. Attention and saliency are those of the neural model, "
        "attention as the mean over its layers and heads."
    )
    example = Excerpts([Excerpt("First", pairs[0].first), Excerpt("Second", pairs[0].second)])
    return [
        Section("By distance", figures),
        Section("In numbers", [*tables, Paragraph(words)]),
        Section("An example", [example]),
    ]


def _points(curve: CueCurve, name: str) -> list[tuple[float, float]]:
    """(distance, mean) of one measure, where the run has it."""
    measures = [(at.distance, getattr(at, name)) for at in curve.distances]
    return [(distance, measure.mean) for distance, measure in measures if measure]
