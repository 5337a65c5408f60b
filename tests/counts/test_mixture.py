"""The share of the counts."""

import numpy as np
import pytest

from textwright.counts.mixture import fit_share, mix


def probabilities(seed: int, power: float) -> np.ndarray:
    return np.random.default_rng(seed).random(2_000) ** power


@pytest.mark.parametrize(("neural", "counts"), [(2.0, 3.0), (3.0, 2.0), (1.0, 8.0)])
def test_no_other_share_makes_the_text_likelier(neural, counts):
    of_model, of_counts = probabilities(1, neural), probabilities(2, counts)
    share = fit_share(of_model, of_counts)
    nats = -np.log(mix(of_model, of_counts, share)).sum()
    for other in np.linspace(0, 1, 101):
        with np.errstate(divide="ignore"):
            assert nats <= -np.log(mix(of_model, of_counts, other)).sum() + 1e-3


def test_a_part_that_is_never_better_gets_no_share():
    good = probabilities(1, 1.0)
    assert fit_share(good, good / 2) < 1e-6
    assert fit_share(good / 2, good) > 1 - 1e-6
