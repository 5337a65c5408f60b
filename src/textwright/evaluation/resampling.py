"""A run beside held-out text, with an interval of the difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textwright.evaluation.scores import middle_of, redrawn_ratios


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
    ratios, redrawn = [], []
    for amounts, sizes in ((run, run_sizes), (held_out, held_out_sizes)):
        sizes = np.ones(len(amounts)) if sizes is None else sizes
        ratios.append(float(amounts.sum() / max(1, sizes.sum())))
        redrawn.append(redrawn_ratios(amounts, sizes, random))
    interval = middle_of(redrawn[0] - redrawn[1])
    return Compared(ratios[0], ratios[1], ratios[0] - ratios[1], interval)
