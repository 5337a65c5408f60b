"""The distance between sets of texts, where the law of each is known."""

import numpy as np
import pytest

from textwright.sweep.matching import HALVES, TextSet, draw_halves, measure_distances


def drawn(seed: int, count: int = 60, *, steep: float = 1.6, bits: float = 2.0) -> TextSet:
    random = np.random.default_rng(seed)
    texts = random.zipf(steep, (count, 20)) % 200
    return TextSet(
        [text.astype(str).tolist() for text in texts],
        random.normal(bits, 0.3, count) * 100,
        np.full(count, 100.0),
    )


def distances(real: TextSet, *sets: TextSet):
    return measure_distances(real, sets, draw_halves(len(real.bits)))


def test_another_sample_of_the_same_law_is_at_about_1():
    found = [distances(drawn(seed), drawn(1000 + seed)).of_all[0] for seed in range(12)]
    assert 0.6 < np.sqrt(np.mean(np.square(found))) < 1.5


@pytest.mark.parametrize("other", [{"bits": 1.5}, {"bits": 2.5}, {"steep": 2.4}, {"steep": 1.2}])
def test_sets_that_differ_either_way_are_farther_than_one_that_does_not(other):
    found = distances(drawn(1), drawn(2), drawn(3, **other))
    assert found.of_all[1] > 2 * found.of_all[0]
    assert np.mean(found.of_halves[1] > found.of_halves[0]) > 0.9


def test_a_set_is_at_no_distance_from_itself():
    assert distances(drawn(1), drawn(1)).of_all[0] == 0


def test_the_spread_over_halves_is_the_error_of_the_whole():
    errors, means = [], []
    for seed in range(200):
        one = drawn(seed)
        errors.append(np.std([one.bits_per_character(half) for half in draw_halves(60, seed)]))
        means.append(one.bits_per_character())
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.15)


def test_halves_are_halves():
    halves = draw_halves(21)
    assert len(halves) == HALVES
    assert all(len(set(half.tolist())) == 10 for half in halves)
