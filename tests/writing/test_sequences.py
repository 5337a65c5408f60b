"""Known sequences and the ids that complete them, against plain sets of tuples."""

import numpy as np
import pytest

from textwright.writing.sequences import KnownSequences, hash_sequences


def sequences(documents: list[list[int]], length: int) -> set[tuple[int, ...]]:
    return {
        tuple(document[start : start + length])
        for document in documents
        for start in range(len(document) - length + 1)
    }


def encoded(documents: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum([0, *map(len, documents)])
    return np.array([token for document in documents for token in document], np.uint16), starts


@pytest.mark.parametrize("length", [2, 3, 5, 9])
@pytest.mark.parametrize("seed", range(5))
def test_the_ids_that_complete_a_sequence_are_those_that_did(seed, length):
    rng = np.random.default_rng(seed)
    vocab_size = 6
    documents = [
        rng.integers(vocab_size, size=size).tolist() for size in rng.integers(0, 30, size=12)
    ]
    known = KnownSequences.of(*encoded(documents), length)
    expected = sequences(documents, length)
    assert len(known.hashes) == len(expected)
    texts = [rng.integers(vocab_size, size=size).tolist() for size in rng.integers(0, 20, size=40)]
    for text in [*texts, *documents]:
        found = known.completing(np.array(text, np.int64), vocab_size)
        before = tuple(text[len(text) - length + 1 :]) if len(text) >= length - 1 else None
        assert sorted(found.tolist()) == [
            token
            for token in range(vocab_size)
            if before is not None and (*before, token) in expected
        ]
        ids, starts = encoded([text])
        assert known.contain(hash_sequences(ids, starts, length)).tolist() == [
            tuple(text[start : start + length]) in expected
            for start in range(len(text) - length + 1)
        ]


def test_the_hash_of_a_sequence_is_that_of_its_definition():
    ids, factor = (
        np.random.default_rng(3).integers(50, size=40).astype(np.uint16),
        0x9E3779B97F4A7C15,
    )
    for length in (1, 2, 7, 16, 23, 40):
        expected = [
            sum((int(i) + 1) * factor ** (length - 1 - k) for k, i in enumerate(ids[at:][:length]))
            for at in range(len(ids) - length + 1)
        ]
        found = hash_sequences(ids, np.array([0, len(ids)]), length)
        assert found.tolist() == [number % 2**64 for number in expected]


def test_sequences_longer_than_any_text_take_no_time():
    known = KnownSequences.of(*encoded([[1, 2], [3, 4, 5]]), 10**9)
    assert len(known.hashes) == 0
    assert known.completing(np.array([1, 2]), 9).tolist() == []


def test_sequences_whose_hashes_pass_the_largest_number_are_found_too():
    # Of 40,000 contexts with a vocabulary of 2^50, some have hashes on both sides of 2^64.
    vocab_size = 1 << 50
    documents = [[context, token] for context in range(40_000) for token in (0, vocab_size - 1)]
    ids = np.array(documents, np.int64).ravel()
    known = KnownSequences.of(ids, np.arange(0, len(ids) + 1, 2), 2)
    wrapped = 0
    for context in range(0, 40_000):
        found = known.completing(np.array([context]), vocab_size)
        assert {0, vocab_size - 1} <= set(found.tolist())
        wrapped += found[0] == 0 and len(found) > 1 and known.hashes[0] < vocab_size
    assert wrapped


def test_no_sequence_crosses_from_one_document_into_the_next():
    known = KnownSequences.of(*encoded([[1, 2], [], [3, 4]]), 2)
    assert known.completing(np.array([2]), 9).tolist() == []
    assert known.completing(np.array([1]), 9).tolist() == [2]
