"""A neural model and counts as one distribution: p = share · p_counts + (1 − share) · p_neural.

The two know different things: counts the exact phrases, the neural model everything else. The share
is one number, fitted on held-out text. (Eight numbers, by how much the counts know of a context,
gained 0.1 to 0.2 % of the bits; docs/training.md.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDS = 60  # of expectation maximization, after which the share is known to four digits


def fit_share(neural: Floats, counts: Floats) -> float:
    """The share of counts under which held-out text is likeliest.

    neural, counts: the probability that each gives to every target (N,).
    """
    share = 0.5
    for _ in range(ROUNDS):
        by_counts = share * counts
        share = float(np.mean(by_counts / (by_counts + (1 - share) * neural)))
    return share


def mix(neural: Floats, counts: Floats, share: float) -> Floats:
    """The mixed probabilities, of any shape."""
    mixed: Floats = share * counts + (1 - share) * neural
    return mixed
