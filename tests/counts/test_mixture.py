"""The shares of a mixture."""

import numpy as np
import pytest

from textwright.counts.mixture import Shares, fit_shares, mix


def probabilities(seed: int, power: float) -> np.ndarray:
    return np.random.default_rng(seed).random(2_000) ** power


@pytest.mark.parametrize("powers", [(2.0, 3.0, 2.0), (3.0, 2.0, 4.0), (1.0, 8.0, 2.0)])
def test_no_other_shares_make_the_text_likelier(powers):
    parts = [probabilities(seed, power) for seed, power in enumerate(powers)]
    shares = fit_shares(*parts)
    assert sum(shares) == pytest.approx(1)
    nats = -np.log(mix(shares, *parts)).sum()
    for other in np.random.default_rng(9).dirichlet(np.ones(3), 200):
        assert nats <= -np.log(mix(Shares(*other), *parts)).sum() + 1e-2


def test_a_part_that_is_never_better_gets_no_share():
    good = probabilities(1, 1.0)
    assert fit_shares(good, good / 2, good / 3).neural > 1 - 1e-6
    assert fit_shares(good / 2, good / 3, good).memory > 1 - 1e-6
