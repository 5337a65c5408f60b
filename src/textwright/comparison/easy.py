"""What easy looks like: the same held-out text by counting and by general compressors, each given
the training text of one run.

A neural model that does not beat these has learned nothing that they do not know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain, islice

import numpy as np

from textwright.comparison.compressors import END, costs, in_bytes, primed_ppmd, primed_xz
from textwright.comparison.subjects import Measured
from textwright.corpus import Corpus
from textwright.counts.kneser_ney import count_models
from textwright.errors import EvaluationError, TextwrightError
from textwright.evaluation.kept import NOTHING_KEPT, KeptResults, fingerprint
from textwright.evaluation.predictors import CountsPredictor
from textwright.evaluation.scores import HeldOut
from textwright.progress import OnStage
from textwright.run import Run
from textwright.run.recorded import recorded_corpus

ORDER = 5  # of the n-grams
PPMD_ORDERS = (3, 4, 5, 6, 8)  # tried on validation text
TRIED_CHARACTERS = 30_000  # of validation text, to choose an order by
AT_ONCE = 1_000  # documents that are encoded together


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


def measure_easy(
    run: Run, documents: Sequence[str], on_stage: OnStage, kept: KeptResults = NOTHING_KEPT
) -> EasyRows:
    """Score documents by unigrams, n-grams, PPMd and xz that know the run's training text.

    Where that text is not where the run recorded it, or is no longer the same, no row is made.
    """
    found = EasyRows()
    try:
        text = _TrainingText(recorded_corpus(run), on_stage)
    except TextwrightError as error:
        found.left_out.append(f"Unigrams, n-grams and compressors are left out: {error}")
        return found
    kept = kept.about(run).given(text=fingerprint(documents), corpus=text.corpus.fingerprint)
    makers: dict[str, Callable[[], list[Easy]]] = {
        "Unigrams and n-grams": lambda: _counted(run, text, documents),
        "PPMd": lambda: _ppmd(text, documents),
        "xz": lambda: _xz(text, documents),
    }
    for name, make in makers.items():
        try:
            found.rows += kept.recall(list[Easy], make, part=name, run=str(run.path))
        except (TextwrightError, MemoryError) as error:
            are = "are" if name.endswith("s") else "is"
            reason = "Memory ran out." if isinstance(error, MemoryError) else error
            found.left_out.append(f"{name} {are} left out: {reason}")
    return found


@dataclass
class _TrainingText:
    """The documents that a run was trained on, read when they are needed."""

    corpus: Corpus
    on_stage: OnStage

    @cached_property
    def train(self) -> list[str]:
        self.on_stage("Reading the training text", 0, 0)
        return list(self.corpus.documents("train"))

    @cached_property
    def tried(self) -> list[str]:
        """Validation text, to choose an order of PPMd by."""
        return list(_up_to(self.corpus.documents("valid"), TRIED_CHARACTERS))

    def for_compressors(self, documents: Sequence[str]) -> bytes:
        """All training documents, each ended by END. Raises EvaluationError if one of these or of
        the documents holds it, or the system cannot copy a process."""
        if not hasattr(os, "fork"):
            raise EvaluationError("This system cannot copy a process.")
        if any(END in document for document in chain(self.train, documents, self.tried)):
            raise EvaluationError("A document contains a zero character.")
        return in_bytes("".join(document + END for document in self.train))


def _up_to(documents: Iterator[str], characters: int) -> Iterator[str]:
    """The first documents, the last of them cut, with so many characters at most."""
    for document in documents:
        if characters <= 0:
            return
        yield document[:characters]
        characters -= len(document)


def _counted(run: Run, text: _TrainingText, documents: Sequence[str]) -> list[Easy]:
    tokenizer = run.tokenizer
    parts: list[np.ndarray] = []
    texts = iter(text.train)
    while chunk := list(islice(texts, AT_ONCE)):
        text.on_stage("Counting", len(parts), len(text.train))
        parts += tokenizer.encode_batch(chunk)
    starts = np.cumsum([0, *map(len, parts)])
    size = tokenizer.vocab_size
    models = [*count_models(np.concatenate(parts), starts, tokenizer.stop_id, size, ORDER)]
    held_out = HeldOut.of(documents, tokenizer, run.escape)
    found = []
    for name, order in (("unigrams", 1), (f"{ORDER}-grams", ORDER)):
        nats = CountsPredictor(models[:order][-1]).score(held_out.rows)
        how = "counted and smoothed (Kneser-Ney)" if order > 1 else "each by itself"
        what = f"tokens of {run.path}, {how}"
        found.append(Easy(name, what, Measured(nats, replace(held_out, rows=[]))))
    return found


def _ppmd(training: _TrainingText, documents: Sequence[str]) -> list[Easy]:
    text, tried = training.for_compressors(documents), training.tried
    best, order = float("inf"), PPMD_ORDERS[0]
    for done, candidate in enumerate(PPMD_ORDERS if tried else ()):
        training.on_stage("Choosing an order of PPMd", done, len(PPMD_ORDERS))
        nats, _ = costs(primed_ppmd(candidate, text), tried)
        total = float(sum(of_document.sum() for of_document in nats))
        if total < best:
            best, order = total, candidate
    encoder = primed_ppmd(order, text)
    what = f"variant H of 7-Zip, of order {order} (chosen on validation text), primed"
    nats, places = costs(encoder, documents, partial(training.on_stage, "Compressing with PPMd"))
    return [Easy("PPMd", what, Measured(nats, HeldOut.sized(documents, places)))]


def _xz(training: _TrainingText, documents: Sequence[str]) -> list[Easy]:
    text = training.for_compressors(documents)
    training.on_stage("Compressing with xz", 0, len(documents))
    compressor = primed_xz(text, 4 * max(map(len, documents)) + 1)
    what = "the coder of xz -9e with a window that holds all of the text, primed"
    nats, places = costs(compressor, documents, partial(training.on_stage, "Compressing with xz"))
    return [Easy("xz", what, Measured(nats, HeldOut.sized(documents, places)))]
