"""The memory of a text, against counting by hand."""

from collections import Counter

import numpy as np
import pytest

from textwright.counts.memory import DISCOUNT, LONGEST, recall, recall_targets

VOCABULARY, STOP = 6, 0


def by_hand(text: list[int], base: np.ndarray) -> np.ndarray:
    """The definition, with loops."""
    p = base
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
            p = np.array(
                [
                    (max(followed[token] - DISCOUNT, 0) + freed * p[token]) / total
                    for token in range(VOCABULARY)
                ]
            )
    return p


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
        found = recall(np.array(text), base)
        assert found == pytest.approx(by_hand(text, base))
        assert found.sum() == pytest.approx(1)


def test_targets_are_scored_as_they_would_be_written(base):
    rows = [np.array([*text, STOP]) for text in texts(2, 40, 25)]
    scored = recall_targets(rows, [base[row[1:]] for row in rows])
    for row, targets in zip(rows, scored, strict=True):
        written = [recall(row[:end], base)[row[end]] for end in range(1, len(row))]
        assert targets == pytest.approx(written)


def test_a_text_has_no_memory_of_other_texts(base):
    row = np.array([STOP, 1, 2, 3, STOP])
    given = base[row[1:]]
    [alone] = recall_targets([row], [given])
    assert all(found == pytest.approx(alone) for found in recall_targets([row] * 5, [given] * 5))
