"""Counts the n-grams of a corpus and chooses how long they should be, on held-out text."""

from __future__ import annotations

from collections.abc import Iterator

from textwright.counts.kneser_ney import KneserNey, count_models
from textwright.evaluation.predictors import CountsPredictor
from textwright.evaluation.scores import HeldOut, Scores, evaluate
from textwright.training.encoded import Documents

# A longer n-gram has to save this share of the nats, since each length adds as much to the file.
WORTHWHILE = 0.002


def count_orders(
    train: Documents, held_out: HeldOut, vocab_size: int, longest: int
) -> Iterator[tuple[KneserNey, Scores, bool]]:
    """Models of order 1, 2, … longest, each with its scores, and whether it betters the one before
    by enough to be kept. The last one that is kept is the model; none longer is tried than the
    first that is not."""
    best = float("inf")
    for model in count_models(train.ids, train.starts, train.stop_id, vocab_size, longest):
        scores = evaluate(CountsPredictor(model).score, held_out)
        better = scores.loss < best * (1 - WORTHWHILE)
        best = scores.loss if better else best
        yield model, scores, better
        if not better:
            return


def choose_counts(train: Documents, held_out: HeldOut, vocab_size: int, longest: int) -> KneserNey:
    """The model that predicts the held-out text best."""
    for model, _, kept in count_orders(train, held_out, vocab_size, longest):
        if kept:
            best = model
    return best
