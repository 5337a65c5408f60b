"""A run as a whole: its scores on held-out documents, its table of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from textwright import models
from textwright.config import Config
from textwright.corpus import Corpus
from textwright.errors import CorpusError
from textwright.evaluation.adherence import Adherence, adherence
from textwright.evaluation.scores import HeldOut, Scores, evaluate
from textwright.run import Run
from textwright.writing.form import Form


def score_run(
    run: Run,
    sources: Sequence[str | Path] = (),
    part: str = "test",
    device: str = "auto",
    fields: bool = False,
) -> tuple[Scores, Adherence | None]:
    """Score a run on its own held-out documents, or on all documents of another corpus.

    fields: tell also how it keeps to the fields of its template; free texts are drawn as its
    `[sample]` says. Raises GenerationError without a template.
    """
    form = Form(run.config.corpus, run.tokenizer) if fields else None
    documents = _documents(run, sources, part)
    model = models.load(run, device)
    held_out = HeldOut.of(documents, run.tokenizer, run.escape)
    scores = evaluate(model, held_out, row_length=run.config.data.row_length)
    if form is None:
        return scores, None
    return scores, adherence(model, run.tokenizer, form, documents, run.config.sample)


def _documents(run: Run, sources: Sequence[str | Path], part: str) -> list[str]:
    if sources:
        # Files given as test files are taken whole; a corpus has sources too, which go unread here.
        texts = Corpus(sources, run.config.corpus, test=sources).documents("test")
    else:
        texts = run.held_out(part)
    documents = list(texts)
    if not documents:
        raise CorpusError(f"{run.path} holds no {part} documents; name a corpus to score.")
    return documents


def summarize(config: Config, vocab_size: int) -> dict[str, Any]:
    """The table of parameters, layer by layer; nothing is allocated for it."""
    with torch.device("meta"):
        model = models.build(config.model, vocab_size, config.data.context_length)
    layers: dict[str, list[torch.Tensor]] = {}
    for name, parameter in model.named_parameters():
        layers.setdefault(name.rpartition(".")[0] or name, []).append(parameter)
    table = [
        {
            "name": name,
            "shape": [list(parameter.shape) for parameter in parameters],
            "count": sum(parameter.numel() for parameter in parameters),
        }
        for name, parameters in layers.items()
    ]
    return {
        "parameters": {"total": sum(row["count"] for row in table), "layers": table},
        "context_length": model.context_length,
        "vocabulary": vocab_size,
    }
