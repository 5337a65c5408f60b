"""Tokens read as the two that were merged into them, so that a small corpus never reads the same.

Subword regularization (Kudo 2018), by which a model learns what its tokens are made of. BPE-dropout
(Provilkov et al. 2020) leaves out merges when text is encoded; here tokens of an encoded text are
split (Sims et al. 2025, "StochasTok"), which takes microseconds. As text is written and scored with
whole tokens, the share that is split falls while a model trains, and at the end none is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from textwright.training.dataset import Batch

ROUNDS = 3  # a half may be split again
UNTIL = 0.8  # of the training; what is left of it goes on with whole tokens


@dataclass(frozen=True)
class Splitter:
    """halves (V, 2): the two tokens that each token was merged from, −1 for one that was not ·
    rate: share of the tokens that are split at the beginning."""

    halves: np.ndarray
    rate: float
    seed: int

    def split(self, batch: Batch, step: int, share: int, shares: int, done: float) -> Batch:
        """The batch with some of its tokens split, each row cut at its old length.

        batch: one share of the rows of a step, without padding · done: share of the training. What
        is drawn for a row depends on the seed, the step and its place in the step's batch alone.
        """
        rate = self.rate * (1 - done / UNTIL)
        if rate <= 0:
            return batch
        rows = np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1)
        for number, row in enumerate(rows):
            random = np.random.default_rng((self.seed, step, share + number * shares))
            rows[number] = self._split(row, rate, random)
        return replace(batch, inputs=rows[:, :-1], targets=rows[:, 1:])

    def _split(self, row: np.ndarray, rate: float, random: np.random.Generator) -> np.ndarray:
        whole = row
        for _ in range(ROUNDS):
            chosen = (random.random(len(whole)) < rate) & (self.halves[whole, 0] >= 0)
            pairs = np.stack([whole, np.full_like(whole, -1)], axis=1)
            pairs[chosen] = self.halves[whole[chosen]]
            whole = pairs[pairs >= 0][: len(row)]
        return whole
