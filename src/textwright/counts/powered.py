"""What counts expect, and a power of it, for what they and a neural model agree on.

    p_agreed(token) ∝ p_neural(token)^a · p_counts(token)^b

After one token, p_counts is that of the single tokens times a share, but for the tokens that have
followed it, of which few are different. And after more, it is that after the newest one times a
share, but for the even fewer tokens that have followed those. So it takes few powers at a place:
those of the single tokens and of the pairs are kept here.

Letters: N places, V vocabulary, P different pairs of tokens in the corpus, n the order of the
counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from textwright.counts.kneser_ney import Ids, KneserNey

Floats = NDArray[np.float32]


class PoweredCounts:
    """Counts, with a power of the probabilities that take no more than one token of context.

    single, left (V,): of the single tokens, and of the share that each leaves to them as context ·
    tokens, pairs, powered (P,): the second token of each pair, its probability after the first, and
    that to the power · begins (V + 1): where the pairs of each first token begin.
    """

    def __init__(self, counts: KneserNey, power: float):
        self.counts, self.power = counts, power
        self.single: Floats = counts.levels[0].probability ** power
        if counts.order == 1:
            return
        singles, pairs, size = counts.levels[0], counts.levels[1], counts.vocab_size
        self.left: Floats = singles.backoff**power
        self.begins: list[int] = pairs.keys.searchsorted(np.arange(size + 1) * size).tolist()
        first, self.tokens = np.divmod(pairs.keys, size)
        unseen = singles.backoff[first] * singles.probability[self.tokens]
        self.pairs: Floats = pairs.probability + unseen
        self.powered: Floats = self.pairs**power

    def after(self, token: int) -> slice:
        """Where the pairs that begin with a token stand."""
        return slice(self.begins[token], self.begins[token + 1])

    def predict(self, contexts: Ids, p: Floats, powered: Floats) -> None:
        """Write the probability of every token after each context (N, n − 1) into p (N, V), and
        that to the power into `powered`."""
        singles = self.counts.levels[0]
        if not contexts.shape[1]:
            p[:], powered[:] = singles.probability, self.single
            return
        places, added, kept = self.counts.beyond_pairs(contexts)
        shares = kept.astype(np.float32)
        powers = shares**self.power
        newest = contexts[:, 0]
        np.multiply((shares * singles.backoff[newest])[:, None], singles.probability, out=p)
        np.multiply((powers * self.left[newest])[:, None], self.single, out=powered)
        for row, token in enumerate(newest.tolist()):
            here = self.after(token)
            followed = self.tokens[here]
            p[row, followed] = self.pairs[here] * shares[row]
            powered[row, followed] = self.powered[here] * powers[row]
        longer = np.divmod(places, self.counts.vocab_size)
        p[longer] += added
        powered[longer] = p[longer] ** self.power
