"""The scores of a run on held-out documents."""

from __future__ import annotations

from functools import cache, partial

import numpy as np

from textwright.evaluation.adherence import Adherence, adherence
from textwright.evaluation.held_out import HeldOutText, held_out_of
from textwright.evaluation.kept import NOTHING_KEPT, KeptResults, device_named
from textwright.evaluation.predictors import open_predictor, score_in_chunks
from textwright.evaluation.scores import HeldOut, Scores, evaluate
from textwright.progress import OnProgress, silent
from textwright.run import Run
from textwright.writing.form import Form
from textwright.writing.generator import Generator


def score_run(
    run: Run,
    text: HeldOutText | None = None,
    part: str = "test",
    device: str = "auto",
    fields: bool = False,
    on_progress: OnProgress = silent,
    kept: KeptResults = NOTHING_KEPT,
) -> tuple[Scores, Adherence | None]:
    """Score a run on a text, or on this part of its own held-out documents.

    fields: score also how well it keeps to the fields of its template; free texts are drawn with
    its `[sample]` options. on_progress: called with tokens that are scored, and all. kept: where
    finished parts are. Raises GenerationError if it has no template.
    """
    form = Form(run.config.corpus, run.tokenizer) if fields else None
    text = text or held_out_of(run, part)
    opened = cache(partial(open_predictor, run, device))  # what is kept needs no model
    kept = kept.about(run).given(device=device_named(device))
    kept = kept.given(text=text.fingerprint)

    def scorer(rows: list[np.ndarray]) -> list[np.ndarray]:
        return score_in_chunks(opened().score, rows, kept, on_progress)

    def compute() -> Scores:
        held_out = HeldOut.of(text.documents, run.tokenizer, run.escape)
        return evaluate(scorer, held_out, row_length=run.config.data.row_length)

    scores = kept.recall(Scores, compute, part="scores")
    if form is None:
        return scores, None
    sample = run.config.sample.model_copy(update={"no_copy": 0})  # what the model does by itself

    def follow() -> Adherence:
        generator = Generator(opened().backend(), run.tokenizer)
        return adherence(scorer, generator, form, text.documents, sample)

    followed = kept.recall(
        Adherence,
        follow,
        part="adherence",
        sample=sample.model_dump(mode="json"),
    )
    return scores, followed
