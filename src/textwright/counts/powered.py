"""Powers of what counts expect, for what they and a neural model agree on (`mixture.agree`).

After one token, a token that has never followed it is as likely as by itself, times a share that
depends on the first alone. So is the power of this. Only a token that has followed needs a power
of its own, and those of all pairs are computed once, here. A longer context changes still fewer
tokens, whose powers are computed at each place.

Letters: N places, V vocabulary, P different pairs of tokens in the corpus, n the order of the
counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from textwright.counts.kneser_ney import Ids, KneserNey

Floats32 = NDArray[np.float32]


class PoweredCounts:
    """Counts, with tables of a power of what they expect after no token and after one.

    single_powers, left_powers (V,): of each token by itself, and of the share that it leaves to
    others as a context. The rest is there from order 2 on: first, second (P,): the tokens of each
    pair · pair_chances, pair_powers (P,): the probability of the second after the first, and its
    power.
    """

    def __init__(self, counts: KneserNey, power: float):
        self.counts, self.power = counts, power
        singles, size = counts.levels[0], counts.vocab_size
        self.single_powers: Floats32 = singles.probability**power
        if counts.order == 1:
            return
        self.left_powers: Floats32 = singles.backoff**power
        pairs = counts.levels[1]
        self.first, self.second = np.divmod(pairs.keys, size)
        unseen = singles.backoff[self.first] * singles.probability[self.second]
        self.pair_chances: Floats32 = pairs.probability + unseen
        self.pair_powers: Floats32 = self.pair_chances**power
        self._begins: list[int] = self.first.searchsorted(np.arange(size + 1)).tolist()

    def after(self, token: int) -> slice:
        """Where the pairs that begin with a token stand."""
        return slice(self._begins[token], self._begins[token + 1])

    def predict(self, contexts: Ids, chances: Floats32, powers: Floats32) -> None:
        """Write the probability of every token after each context (N, n − 1) into `chances` (N, V),
        and its power into `powers`."""
        singles = self.counts.levels[0]
        if not contexts.shape[1]:
            chances[:], powers[:] = singles.probability, self.single_powers
            return
        places, added, kept = self.counts.beyond_pairs(contexts)
        share = kept.astype(np.float32)
        share_power = share**self.power
        newest = contexts[:, 0]
        np.multiply((share * singles.backoff[newest])[:, None], singles.probability, out=chances)
        left = share_power * self.left_powers[newest]
        np.multiply(left[:, None], self.single_powers, out=powers)
        for row, token in enumerate(newest.tolist()):
            pairs = self.after(token)
            followed = self.second[pairs]
            chances[row, followed] = self.pair_chances[pairs] * share[row]
            powers[row, followed] = self.pair_powers[pairs] * share_power[row]
        longer = np.divmod(places, self.counts.vocab_size)
        chances[longer] += added
        powers[longer] = chances[longer] ** self.power
