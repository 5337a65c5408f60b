"""What a sum over all tokens leaves out adds nothing."""

import numpy as np
import pytest
import torch

from textwright.counts.kneser_ney import count_model
from textwright.evaluation.agreement import PoweredSums

VOCABULARY = 40


@pytest.mark.parametrize("power", [0.75, 1.0])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("in_order", [True, False])
def test_sums_are_those_over_every_token(order, power, in_order):
    random = np.random.default_rng(order)
    lengths = random.integers(1, 30, size=50)
    ids = random.zipf(1.5, size=lengths.sum()) % (VOCABULARY - 3) + 1  # some tokens never occur
    counts = count_model(ids, np.array([0, *lengths.cumsum()]), 0, VOCABULARY, order)
    text = random.integers(VOCABULARY, size=300)  # which knows few of them
    contexts = counts.contexts_of([np.array([0, *ids[:300]]), np.array([0, *text])])
    if in_order and order > 1:
        contexts = contexts[np.argsort(contexts[:, 0])]
    weights = random.random((len(contexts), VOCABULARY)).astype(np.float32)

    found = PoweredSums(counts, power).of(torch.from_numpy(weights), contexts)

    want = (weights * counts.distribution(contexts) ** power).sum(1)
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-5)
