"""Counts of a small made-up corpus, and places in its text and in other text."""

import numpy as np

from textwright.counts.kneser_ney import KneserNey, count_model

VOCABULARY = 40


def counts_and_contexts(order: int) -> tuple[KneserNey, np.ndarray]:
    """The counts and the contexts (N, order − 1) of some hundred places."""
    random = np.random.default_rng(order)
    lengths = random.integers(1, 30, size=50)
    ids = random.zipf(1.5, size=lengths.sum()) % (VOCABULARY - 3) + 1  # some tokens never occur
    counts = count_model(ids, np.array([0, *lengths.cumsum()]), 0, VOCABULARY, order)
    text = random.integers(VOCABULARY, size=300)  # of which the corpus knows little
    return counts, counts.contexts_of([np.array([0, *ids[:300]]), np.array([0, *text])])
