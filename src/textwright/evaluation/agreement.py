"""What a neural model expects, and what it and the counts of a corpus agree on, at each token.

What they agree on (`counts.mixture.agree`) is a product of powers, divided by its sum over all
tokens. Only that sum needs more than the token itself:

    Σ p_model^a · p_counts^b

After any context, p_counts^b is that of the single tokens times a share, but for the few tokens
that have followed the newest ones (`counts.powered`). So the sum is a product of matrices, and what
these few tokens add.

Letters: N places, V vocabulary, P different pairs of tokens in the corpus.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from textwright.counts.powered import PoweredCounts
from textwright.evaluation.neural import judge
from textwright.models import LanguageModel
from textwright.progress import OnProgress


def agreements(
    model: LanguageModel,
    power: float,
    sums: PoweredSums,
    rows: list[np.ndarray],
    contexts: np.ndarray,
    counted: np.ndarray,
    on_progress: OnProgress,
) -> tuple[np.ndarray, np.ndarray]:
    """The probability of all targets (row[1:]) of all rows in a line (N,), by the model and by what
    `counts.mixture.agree` makes of it.

    power: of the model's probabilities · sums: those of the counts · contexts, counted: of the
    targets, by the counts.
    """

    def judgment(hidden: Tensor, targets: Tensor, places: np.ndarray) -> Tensor:
        here = contexts[places]
        order = np.argsort(here[:, 0], kind="stable") if here.shape[1] else np.arange(len(here))
        hidden, targets, here = hidden[order], targets[order], here[order]
        found = hidden.new_empty(len(targets), 2)
        for block, neural in model.token_log_probabilities(hidden):
            found[block, :1] = neural.gather(1, targets[block, None])
            neural.mul_(power).exp_()
            found[block, 1] = sums.of(neural.cpu(), here[block]).to(found)
        return found[np.argsort(order)]

    neural, total = np.concatenate(judge(model, rows, judgment, 2, on_progress)).T
    return np.exp(neural), np.exp(power * neural) * counted**sums.powered.power / total


class PoweredSums:
    """Sums over all tokens of a weight times a power of their probability by the counts."""

    def __init__(self, powered: PoweredCounts):
        self.powered = powered
        self.singles = torch.from_numpy(powered.single_powers)
        if powered.counts.order > 1:
            unseen = powered.left_powers[powered.first] * powered.single_powers[powered.second]
            self.gains = torch.from_numpy(powered.pair_powers - unseen)  # (P,)

    def of(self, weights: Tensor, contexts: np.ndarray) -> Tensor:
        """The sum at each place (N,). weights (N, V) float32 · contexts (N, order − 1), as
        `KneserNey.contexts_of` gives them; quick where places after the same token stand side by
        side."""
        found = weights @ self.singles
        if not contexts.shape[1]:
            return found
        powered, newest = self.powered, contexts[:, 0]
        counts, power = powered.counts, powered.power
        found *= torch.from_numpy(powered.left_powers[newest])
        changes = np.flatnonzero(np.diff(newest)) + 1
        for begin, end in zip([0, *changes], [*changes, len(newest)], strict=True):
            pairs = powered.after(newest[begin])
            found[begin:end] += weights[begin:end, powered.second[pairs]] @ self.gains[pairs]
        places, added, kept = counts.beyond_pairs(contexts)
        found *= torch.from_numpy(kept**power)
        rows, tokens = np.divmod(places, counts.vocab_size)
        keys = newest[rows] * counts.vocab_size + tokens
        before = kept[rows] * powered.pair_chances[counts.levels[1].keys.searchsorted(keys)]
        gains = (before + added) ** power - before**power
        gained = gains * weights.reshape(-1)[places].numpy()
        return found + torch.from_numpy(np.bincount(rows, gained, len(weights)))
