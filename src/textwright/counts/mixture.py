"""A neural model, the counts of a corpus and those of the text being read as one distribution.

    p = shares.neural · p_neural + shares.counts · p_counts + shares.memory · p_memory

The three know different things: counts the exact phrases of the corpus, the memory this text's own
names and phrases, the neural model everything else. The shares are three numbers, fitted on
held-out text. (Shares by how much the counts know of a context gained 0.1 to 0.2 % of the bits.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDS = 100  # of expectation maximization, after which shares are known to three digits


class Shares(NamedTuple):
    """Weights of the parts; they sum to 1."""

    neural: float
    counts: float
    memory: float


EVEN = Shares(1 / 3, 1 / 3, 1 / 3)


def fit_shares(neural: Floats, counts: Floats, memory: Floats) -> Shares:
    """The shares under which held-out text is likeliest.

    neural, counts, memory: the probability that each gives to every target (N,).
    """
    parts = np.stack([neural, counts, memory])
    shares = np.full((3, 1), 1 / 3)
    for _ in range(ROUNDS):
        owed = shares * parts
        shares = (owed / owed.sum(0)).mean(1, keepdims=True)
    return Shares(*shares[:, 0].tolist())


def mix(shares: Shares, neural: Floats, counts: Floats, memory: Floats) -> Floats:
    """The mixed probabilities, of any shape."""
    mixed: Floats = shares.neural * neural + shares.counts * counts + shares.memory * memory
    return mixed
