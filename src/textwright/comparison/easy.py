"""What easy looks like: the same held-out text by counting and by general compressors, each given
the training text of one run.

A neural model that does not beat these has learned nothing that they do not know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np

from textwright.comparison.compressors import END, costs, in_bytes, primed_ppmd, primed_xz
from textwright.comparison.subjects import Measured
from textwright.counts.kneser_ney import count_ngrams, smooth
from textwright.errors import TextwrightError
from textwright.evaluation.predictors import CountsPredictor
from textwright.evaluation.scores import HeldOut
from textwright.run import Run
from textwright.run.recorded import recorded_corpus

ORDER = 5  # of the n-grams
PPMD_ORDERS = (3, 4, 5, 6, 8)  # tried on validation text
TRIED_CHARACTERS = 30_000  # of validation text, to choose an order by
AT_ONCE = 1_000  # documents that are encoded together

OnStage = Callable[[str, int, int], None]  # stage, done, total


@dataclass
class Easy:
    """One such model. what: how it was made, in a sentence."""

    name: str
    what: str
    measured: Measured


@dataclass
class EasyRows:
    """Those that could be made, and a sentence for each that could not."""

    rows: list[Easy] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def measure_easy(run: Run, documents: Sequence[str], on_stage: OnStage) -> EasyRows:
    """Score documents by unigrams, n-grams, PPMd and xz that know the run's training text.

    Where that text is not where the run recorded it, or is no longer the same, no row is made.
    """
    found = EasyRows()
    on_stage("Reading the training text", 0, 0)
    try:
        corpus = recorded_corpus(run)
        train = list(corpus.documents("train"))
        tried = list(_up_to(corpus.documents("valid"), TRIED_CHARACTERS))
    except TextwrightError as error:
        found.left_out.append(f"Unigrams, n-grams and compressors are left out: {error}")
        return found
    found.rows.extend(_counted(run, train, documents, on_stage))
    if not hasattr(os, "fork"):
        found.left_out.append("Compressors are left out: this system cannot copy a process.")
    elif any(END in document for part in (train, documents, tried) for document in part):
        found.left_out.append("Compressors are left out: a document contains a zero character.")
    else:
        text = in_bytes("".join(document + END for document in train))
        try:
            found.rows.append(_ppmd(text, tried, documents, on_stage))
        except TextwrightError as error:
            found.left_out.append(f"PPMd is left out: {error}")
        found.rows.append(_xz(text, documents, on_stage))
    return found


def _up_to(documents: Iterator[str], characters: int) -> Iterator[str]:
    """The first documents, the last of them cut, with so many characters at most."""
    for document in documents:
        if characters <= 0:
            return
        yield document[:characters]
        characters -= len(document)


def _counted(
    run: Run, train: Sequence[str], documents: Sequence[str], on_stage: OnStage
) -> Iterator[Easy]:
    tokenizer = run.tokenizer
    parts: list[np.ndarray] = []
    texts = iter(train)
    while chunk := list(islice(texts, AT_ONCE)):
        on_stage("Counting", len(parts), len(train))
        parts += tokenizer.encode_batch(chunk)
    starts = np.cumsum([0, *map(len, parts)])
    size = tokenizer.vocab_size
    counts = count_ngrams(np.concatenate(parts), starts, tokenizer.stop_id, size, ORDER)
    text = HeldOut.of(documents, tokenizer, run.escape)
    for name, order in (("unigrams", 1), (f"{ORDER}-grams", ORDER)):
        nats = CountsPredictor(smooth(counts[:order], size)).score(text.rows)
        yield Easy(
            name,
            f"tokens of {run.path}, "
            + ("counted and smoothed (Kneser-Ney)" if order > 1 else "each by itself"),
            Measured(nats, text),
        )


def _ppmd(text: bytes, tried: Sequence[str], documents: Sequence[str], on_stage: OnStage) -> Easy:
    best, order = float("inf"), PPMD_ORDERS[0]
    for done, candidate in enumerate(PPMD_ORDERS if tried else ()):
        on_stage("Choosing an order of PPMd", done, len(PPMD_ORDERS))
        nats, _ = costs(primed_ppmd(candidate, text), tried)
        total = float(sum(of_document.sum() for of_document in nats))
        if total < best:
            best, order = total, candidate
    encoder = primed_ppmd(order, text)
    what = f"variant H of 7-Zip, of order {order} (chosen on validation text), primed"
    nats, places = costs(encoder, documents, partial(on_stage, "Compressing with PPMd"))
    return Easy("PPMd", what, Measured(nats, HeldOut.sized(documents, places)))


def _xz(text: bytes, documents: Sequence[str], on_stage: OnStage) -> Easy:
    on_stage("Compressing with xz", 0, len(documents))
    compressor = primed_xz(text, 4 * max(map(len, documents)) + 1)
    what = "the coder of xz -9e with a window that holds all of the text, primed"
    nats, places = costs(compressor, documents, partial(on_stage, "Compressing with xz"))
    return Easy("xz", what, Measured(nats, HeldOut.sized(documents, places)))
