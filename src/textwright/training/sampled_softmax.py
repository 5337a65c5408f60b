"""Tokens that stand for the whole vocabulary in the softmax of a step (Bengio & Senécal 2003).

A softmax divides by a sum over all tokens, most of which are next to nothing. Each token drawn here
counts as 1 / p tokens, where p is the probability that it is drawn, so the sum over the sample is
that over all tokens on average. Which are drawn, and how often each counts, is priority sampling
(Duffield, Lund & Thorup 2007): frequent tokens are always there and count once. So do the targets
of the batch, which have to be there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textwright.config import TrainOptions
from textwright.models.loss import PADDING_TARGET
from textwright.training.encoded import Documents

MULTIPLE = 64  # the size of a sample is a multiple of it, as products in bf16 prefer
UNSEEN = 0.5  # added to the frequency of each token, since some occur nowhere


@dataclass(frozen=True)
class TokenSampler:
    """frequencies (V,): how often each token occurs, more than 0 · size: the fewest tokens of a
    sample. It is filled up to a MULTIPLE, and is never less than twice the different targets."""

    frequencies: np.ndarray
    size: int
    seed: int

    @classmethod
    def of(
        cls, documents: Documents, vocab_size: int, options: TrainOptions
    ) -> TokenSampler | None:
        """For these documents; None where the softmax is taken over all tokens."""
        if not 0 < options.sampled_softmax < vocab_size:
            return None
        frequencies = documents.frequencies(vocab_size) + UNSEEN
        return cls(frequencies, options.sampled_softmax, options.seed)

    def draw(
        self, targets: np.ndarray, step: int, share: int
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """The ids (S,) int64, ascending, and the logarithm of how many tokens each stands for (S,)
        float32, for a step's share of targets; None if the sample would be all tokens."""
        own = np.unique(targets[targets != PADDING_TARGET])
        count = len(self.frequencies)
        size = -(-max(self.size, 2 * len(own)) // MULTIPLE) * MULTIPLE
        if size >= count:
            return None
        random = np.random.default_rng((self.seed, step, share, 2))  # 1 is for opened paragraphs
        priorities = self.frequencies / (1 - random.random(count))
        priorities[own] = np.inf
        order = np.argpartition(-priorities, size)
        ids = np.sort(order[:size])
        stands_for = np.maximum(1, priorities[order[size]] / self.frequencies[ids])
        stands_for[np.searchsorted(ids, own)] = 1
        return ids, np.log(stands_for).astype(np.float32)
