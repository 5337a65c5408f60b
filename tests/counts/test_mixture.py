"""How a mixture weighs its parts."""

import numpy as np
import pytest

from textwright.counts.mixture import EVEN, EVIDENCE, Mixture, Parts, Shares, agree, fit_mixture

PLACES = 3_000


def parts_of(powers: tuple[float, float, float], seed: int = 0) -> Parts:
    """Chances that know nothing of the evidence."""
    random = np.random.default_rng(seed)
    chances = np.stack([random.random(PLACES) ** power for power in powers], 1)
    return Parts(chances, random.normal(2.0, 3.0, (PLACES, len(EVIDENCE))))


def bits(mixture: Mixture, parts: Parts) -> float:
    return float(-np.log2(mixture.mix(parts)).mean())


@pytest.mark.parametrize("powers", [(2.0, 3.0, 2.0), (3.0, 2.0, 4.0), (1.0, 8.0, 2.0)])
def test_no_constant_shares_make_the_text_likelier(powers):
    parts = parts_of(powers)
    fitted = bits(fit_mixture(parts), parts)
    for other in np.random.default_rng(9).dirichlet(np.ones(3), 300):
        assert fitted <= bits(Mixture.constant(Shares(*other)), parts) + 1e-4


def test_a_part_that_is_never_better_gets_no_share():
    good = parts_of((1.0, 1.0, 1.0)).chances[:, :1]
    nothing = np.zeros((PLACES, len(EVIDENCE)))
    assert fit_mixture(Parts(good / [1, 3, 4], nothing)).usual.neural > 0.99
    assert fit_mixture(Parts(good / [3, 4, 1], nothing)).usual.memory > 0.99


def planted(seed: int) -> tuple[Parts, Mixture]:
    """Targets that are drawn by a mixture whose shares depend on the evidence, and that mixture."""
    random = np.random.default_rng(seed)
    weights = random.normal(0.0, 0.5, (1 + len(EVIDENCE), 3))
    truth = Mixture(weights, EVEN)
    evidence = random.normal(0.0, 1.0, (20_000, len(EVIDENCE)))
    tables = random.dirichlet(np.full(6, 0.4), (20_000, 3))  # each part's law over six tokens
    cumulated = truth.mix(Parts(tables, evidence)).cumsum(1)
    drawn = (random.random((20_000, 1)) > cumulated).sum(1).clip(max=5)
    chances = tables[np.arange(20_000), :, drawn]
    return Parts(chances, evidence), truth


def test_shares_that_depend_on_the_evidence_are_found_on_other_text():
    parts, truth = planted(1)
    half = len(parts.chances) // 2
    seen, fresh = (
        Parts(parts.chances[chosen], parts.evidence[chosen])
        for chosen in (slice(half), slice(half, None))
    )
    fitted = fit_mixture(seen)
    best_constant = min(
        bits(Mixture.constant(Shares(*shares)), fresh)
        for shares in np.random.default_rng(9).dirichlet(np.ones(3), 300)
    )
    assert bits(fitted, fresh) == pytest.approx(bits(truth, fresh), abs=0.003)
    assert bits(fitted, fresh) < best_constant - 0.02


def test_little_text_cannot_mislead():
    """Evidence that says nothing costs little, even where there are 100 targets to fit to."""
    parts = parts_of((2.0, 3.0, 2.0), seed=4)
    few = Parts(parts.chances[:100], parts.evidence[:100])
    assert bits(fit_mixture(few), parts) < bits(fit_mixture(parts), parts) + 0.03


@pytest.mark.parametrize("powers", [(0.4, 0.75), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0)])
def test_what_two_parts_agree_on_is_the_product_of_their_powers(powers):
    random = np.random.default_rng(2)
    neural, counts = random.dirichlet(np.full(7, 0.5), (2, 5)).astype(np.float32)
    found = counts ** powers[1]
    agree(np.log(neural / neural.max(1, keepdims=True)), found, powers[0])
    for p, q, both in zip(neural, counts, found, strict=True):
        products = [a ** powers[0] * b ** powers[1] for a, b in zip(p, q, strict=True)]
        assert both == pytest.approx(np.array(products) / sum(products), rel=1e-5)


def test_shares_sum_to_1_and_a_kept_mixture_is_the_same():
    parts = parts_of((2.0, 3.0, 2.0))
    mixture = fit_mixture(parts)
    assert mixture.shares(parts.evidence).sum(1) == pytest.approx(np.ones(PLACES))
    assert sum(mixture.usual) == pytest.approx(1)
    again = Mixture.from_json(mixture.to_json())
    assert again.mix(parts) == pytest.approx(mixture.mix(parts))
    assert again.powers == mixture.powers
    old = {"neural": 0.5, "counts": 0.3, "memory": 0.2}
    read = Mixture.from_json(old)
    assert read.shares(parts.evidence)[7] == pytest.approx([0.5, 0.3, 0.2])
    assert read.powers == (0.0, 1.0)
