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

from textwright.counts.kneser_ney import KneserNey
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
    return np.exp(neural), np.exp(power * neural) * counted**sums.table.power / total


class PoweredSums:
    """Sums over all tokens of a weight times a power of their probability by the counts."""

    def __init__(self, counts: KneserNey, power: float):
        self.table = table = PoweredCounts(counts, power)
        self.single = torch.from_numpy(table.single)
        if counts.order > 1:
            first = np.repeat(np.arange(counts.vocab_size), np.diff(table.begins))
            unseen = table.left[first] * table.single[table.tokens]
            self.gains = torch.from_numpy(table.powered - unseen)  # (P,)

    def of(self, weights: Tensor, contexts: np.ndarray) -> Tensor:
        """The sum at each place (N,). weights (N, V) float32 · contexts (N, order − 1), as
        `KneserNey.contexts_of` gives them; quick where places after the same token stand side by
        side."""
        found = weights @ self.single
        if not contexts.shape[1]:
            return found
        table, newest = self.table, contexts[:, 0]
        counts, power = table.counts, table.power
        found *= torch.from_numpy(table.left[newest])
        changes = np.flatnonzero(np.diff(newest)) + 1
        for begin, end in zip([0, *changes], [*changes, len(newest)], strict=True):
            pairs = table.after(newest[begin])
            found[begin:end] += weights[begin:end, table.tokens[pairs]] @ self.gains[pairs]
        places, added, kept = counts.beyond_pairs(contexts)
        found *= torch.from_numpy(kept**power)
        rows, tokens = np.divmod(places, counts.vocab_size)
        keys = newest[rows] * counts.vocab_size + tokens
        before = kept[rows] * table.pairs[counts.levels[1].keys.searchsorted(keys)]
        gains = (before + added) ** power - before**power
        gained = gains * weights.reshape(-1)[places].numpy()
        return found + torch.from_numpy(np.bincount(rows, gained, len(weights)))
