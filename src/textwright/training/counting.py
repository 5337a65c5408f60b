"""Counts the n-grams of a corpus and chooses how long they should be, on held-out text."""

from __future__ import annotations

from collections.abc import Iterator

from textwright.counts.kneser_ney import KneserNey, count_ngrams, smooth
from textwright.evaluation.predictors import CountsPredictor
from textwright.evaluation.scores import HeldOut, Scores, evaluate
from textwright.training.encoded import Documents

# A longer n-gram has to save this share of the nats, since each length adds as much to the file.
WORTHWHILE = 0.002


def count_orders(
    train: Documents, held_out: HeldOut, vocab_size: int, longest: int
) -> Iterator[tuple[KneserNey, Scores, bool]]:
    """Models of order 1, 2, … longest, each with its scores, and whether it betters those before
    by enough to be kept. The last one that is kept is the model."""
    counts = count_ngrams(train.ids, train.starts, train.stop_id, vocab_size, longest)
    best = float("inf")
    for order in range(1, longest + 1):
        model = smooth(counts[:order], vocab_size)
        scores = evaluate(CountsPredictor(model).score, held_out)
        better = scores.loss < best * (1 - WORTHWHILE)
        best = scores.loss if better else best
        yield model, scores, better


def choose_counts(train: Documents, held_out: HeldOut, vocab_size: int, longest: int) -> KneserNey:
    """The model that predicts the held-out text best."""
    tried = count_orders(train, held_out, vocab_size, longest)
    return [model for model, _, kept in tried if kept][-1]
