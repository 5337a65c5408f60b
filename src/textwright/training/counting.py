"""Counts the n-grams of a corpus and chooses how long they should be, on held-out text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from textwright.counts.kneser_ney import KneserNey, count_models
from textwright.evaluation.predictors import CountsPredictor
from textwright.evaluation.scores import HeldOut, Scores, evaluate
from textwright.training.encoded import Documents

# A longer n-gram has to save this share of the nats, since each length adds as much to the file.
WORTHWHILE = 0.002


def count_orders(
    train: Documents,
    held_out: HeldOut,
    vocab_size: int,
    longest: int,
    openings: Sequence[int] | np.ndarray = (),
) -> Iterator[tuple[KneserNey, Scores, bool]]:
    """Models of order 1, 2, … longest, each with its scores, and whether it betters the one before
    by enough to be kept. The last one that is kept is the model; none longer is tried than the
    first that is not. openings: see `count_models`."""
    best = float("inf")
    text = train.ids, train.starts, train.stop_id
    for model in count_models(*text, vocab_size, longest, openings):
        scores = evaluate(CountsPredictor(model).score, held_out)
        better = scores.loss < best * (1 - WORTHWHILE)
        best = scores.loss if better else best
        yield model, scores, better
        if not better:
            return


def choose_counts(
    train: Documents, held_out: HeldOut, vocab_size: int, longest: int, openings: np.ndarray
) -> KneserNey:
    """The last model that `count_orders` kept. Arguments as there."""
    for model, _, kept in count_orders(train, held_out, vocab_size, longest, openings):
        if kept:
            best = model
    return best
