"""What is taken from tables and from few tokens is what the counts say of all of them."""

import numpy as np
import pytest
from small_counts import VOCABULARY, counts_and_contexts

from textwright.counts.powered import PoweredCounts


@pytest.mark.parametrize("power", [0.75, 1.0])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_and_their_powers_are_those_of_the_counts(order, power):
    counts, contexts = counts_and_contexts(order)
    p, powered = np.empty((2, len(contexts), VOCABULARY), np.float32)

    PoweredCounts(counts, power).predict(contexts, p, powered)

    want = counts.distribution(contexts)
    np.testing.assert_allclose(p, want, rtol=1e-5)
    np.testing.assert_allclose(powered, want**power, rtol=1e-5)
