"""What a sum over all tokens leaves out adds nothing."""

import numpy as np
import pytest
import torch
from small_counts import VOCABULARY, counts_and_contexts

from textwright.counts.powered import PoweredCounts
from textwright.evaluation.agreement import PoweredSums


@pytest.mark.parametrize("power", [0.75, 1.0])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("in_order", [True, False])
def test_sums_are_those_over_every_token(order, power, in_order):
    counts, contexts = counts_and_contexts(order)
    if in_order and order > 1:
        contexts = contexts[np.argsort(contexts[:, 0])]
    weights = np.random.default_rng(1).random((len(contexts), VOCABULARY)).astype(np.float32)

    found = PoweredSums(PoweredCounts(counts, power)).of(torch.from_numpy(weights), contexts)

    want = (weights * counts.distribution(contexts) ** power).sum(1)
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-5)
