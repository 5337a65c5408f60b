"""The scores of a run on held-out documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textwright.evaluation.adherence import Adherence, adherence
from textwright.evaluation.held_out import held_out_of, read_text
from textwright.evaluation.predictors import open_predictor
from textwright.evaluation.scores import HeldOut, Scores, evaluate
from textwright.run import Run
from textwright.writing.form import Form
from textwright.writing.generator import Generator


def score_run(
    run: Run,
    sources: Sequence[str | Path] = (),
    part: str = "test",
    device: str = "auto",
    fields: bool = False,
) -> tuple[Scores, Adherence | None]:
    """Score a run on its own held-out documents, or on all documents of another corpus.

    fields: score also how well it keeps to the fields of its template; free texts are drawn with
    its `[sample]` options. Raises GenerationError if it has no template.
    """
    form = Form(run.config.corpus, run.tokenizer) if fields else None
    text = read_text(sources, run.config.corpus) if sources else held_out_of(run, part)
    predictor = open_predictor(run, device)
    held_out = HeldOut.of(text.documents, run.tokenizer, run.escape)
    scores = evaluate(predictor.score, held_out, row_length=run.config.data.row_length)
    if form is None:
        return scores, None
    generator = Generator(predictor.backend(), run.tokenizer)
    sample = run.config.sample.model_copy(update={"no_copy": 0})  # what the model does by itself
    return scores, adherence(predictor.score, generator, form, text.documents, sample)
