"""A run beside held-out text, with an interval of the difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textwright.evaluation.scores import RESAMPLES


@dataclass(frozen=True)
class Compared:
    """A ratio of sums over texts: of the run's, of held-out ones, and their difference with the
    middle 95 % of it over texts that are drawn again."""

    run: float
    held_out: float
    excess: float
    interval: tuple[float, float]


def compare(
    run: np.ndarray,
    held_out: np.ndarray,
    run_sizes: np.ndarray | None = None,
    held_out_sizes: np.ndarray | None = None,
    *,
    seed: int,
) -> Compared:
    """Compare sum(amounts) / sum(sizes) of two sets of texts; sizes of 1 give means.

    The two sets are drawn again each by itself (Efron & Tibshirani 1993, ch. 8).
    """
    random = np.random.default_rng(seed)
    ratios, drawn = [], []
    for amounts, sizes in ((run, run_sizes), (held_out, held_out_sizes)):
        sizes = np.ones(len(amounts)) if sizes is None else sizes
        chosen = random.integers(len(amounts), size=(RESAMPLES, len(amounts)))
        ratios.append(float(amounts.sum() / max(1, sizes.sum())))
        drawn.append(amounts[chosen].sum(1) / np.maximum(1, sizes[chosen].sum(1)))
    low, high = np.percentile(drawn[0] - drawn[1], [2.5, 97.5])
    return Compared(ratios[0], ratios[1], ratios[0] - ratios[1], (float(low), float(high)))
