"""What a neural model expects, and what it and the counts of a corpus agree on, at each token."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from textwright.counts.kneser_ney import KneserNey
from textwright.evaluation.neural import judge
from textwright.models import LanguageModel
from textwright.progress import OnProgress


def agreements(
    model: LanguageModel,
    counts: KneserNey,
    powers: tuple[float, float],
    rows: list[np.ndarray],
    contexts: np.ndarray,
    on_progress: OnProgress,
) -> tuple[np.ndarray, np.ndarray]:
    """The probability of all targets (row[1:]) of all rows in a line (N,), by the model and by what
    `counts.mixture.agree` makes of it; contexts: of these targets, by the counts."""
    by_model, by_counts = powers

    def judgment(hidden: Tensor, targets: Tensor, places: np.ndarray) -> Tensor:
        found = hidden.new_empty(len(targets), 2)
        for block, neural in model.token_log_probabilities(hidden):
            counted = torch.from_numpy(counts.distribution(contexts[places[block]]))
            joined = by_model * neural + by_counts * counted.log_().to(neural)
            both = neural, joined.log_softmax(1)
            found[block] = torch.cat([p.gather(1, targets[block, None]) for p in both], 1).exp_()
        return found

    neural, agreed = np.concatenate(judge(model, rows, judgment, 2, on_progress)).T
    return neural, agreed
