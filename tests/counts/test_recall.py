"""The memory of a text, against counting by hand."""

import math
from collections import Counter

import numpy as np
import pytest

from textwright.counts.memory import DISCOUNT, LONGEST, recall, recall_targets

VOCABULARY, STOP = 6, 0


def by_hand(text: list[int], base: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """The definition, with loops: probabilities, and how much and how varied was seen."""
    p, evidence = base, [0.0, 1.0] * LONGEST
    for length in range(min(LONGEST, len(text) - 1) + 1):
        context = tuple(text[len(text) - length :])
        followed = Counter(
            text[at]
            for at in range(max(1, length), len(text))
            if tuple(text[at - length : at]) == context
        )
        total = sum(followed.values())
        if total:
            freed = DISCOUNT * len(followed)
            if length:
                evidence[2 * (length - 1)] = math.log(1 + total)
                evidence[2 * (length - 1) + 1] = len(followed) / total
            p = np.array(
                [
                    (max(followed[token] - DISCOUNT, 0) + freed * p[token]) / total
                    for token in range(VOCABULARY)
                ]
            )
    return p, evidence


def texts(seed: int, count: int, longest: int) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [
        [STOP, *random.integers(1, VOCABULARY, random.integers(0, longest)).tolist()]
        for _ in range(count)
    ]


@pytest.fixture
def base() -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(VOCABULARY))


def test_what_followed_earlier_is_likelier_and_all_sums_to_1(base):
    for text in texts(1, 60, 25):
        found = base.copy()
        evidence = recall(np.array(text), found)
        expected, seen = by_hand(text, base)
        assert found == pytest.approx(expected)
        assert evidence == pytest.approx(seen)
        assert found.sum() == pytest.approx(1)


def test_targets_are_scored_as_they_would_be_written(base):
    rows = [np.array([*text, STOP]) for text in texts(2, 40, 25)]
    scored, evidence = recall_targets(rows, base[np.concatenate([row[1:] for row in rows])])
    places = [(row, end) for row in rows for end in range(1, len(row))]
    for (row, end), p, known in zip(places, scored, evidence, strict=True):
        written = base.copy()
        seen = recall(row[:end], written)
        assert p == pytest.approx(written[row[end]])
        assert known == pytest.approx(seen)


def test_a_text_has_no_memory_of_other_texts(base):
    row = np.array([STOP, 1, 2, 3, 1, STOP])
    given = base[row[1:]]
    alone, seen = recall_targets([row], given)
    together, of_all = recall_targets([row] * 5, np.tile(given, 5))
    assert together == pytest.approx(np.tile(alone, 5))
    assert of_all == pytest.approx(np.tile(seen, (5, 1)))
