"""Sequences of tokens that occur in a text, known by their hashes, and the ids that complete one.

The hash of a sequence is h = Σ (id_k + 1)·FACTOR^(length−1−k) modulo 2^64. The ids that may end a
sequence therefore give consecutive hashes, and all of them that complete a known sequence are found
by two binary searches, whatever the size of the vocabulary. Of M known sequences, a new one is
taken for known with a probability of about M / 2^64.

Letters: T time, N tokens of the text, M sequences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textwright.writing.sampling_steps import Ids

Hashes = NDArray[np.uint64]

_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def hash_sequences(ids: np.ndarray, starts: np.ndarray, length: int) -> Hashes:
    """A hash of each sequence of `length` ids that lies in one document, in their order.

    ids (N,) · starts (documents + 1,): where each document begins.
    """
    count = max(0, len(ids) - length + 1)
    if not count:
        return np.empty(0, np.uint64)
    # Twice as long each time: `parts` are hashes of `size` ids, `factor` is FACTOR^size.
    parts, size, factor = ids.astype(np.uint64) + np.uint64(1), 1, np.array([_FACTOR])
    hashes, done = np.zeros(len(ids) + 1, np.uint64), 0
    while done < length:
        if length & size:
            hashes = hashes[: len(ids) - done - size + 1] * factor + parts[done:]
            done += size
        parts = parts[:-size] * factor + parts[size:]
        size, factor = 2 * size, np.square(factor)
    whole = np.ones(count, bool)
    for end in np.asarray(starts)[1:-1].tolist():
        whole[max(0, end - length + 1) : end] = False
    return hashes[whole]


@dataclass(frozen=True)
class KnownSequences:
    """All sequences of `length` tokens of a text. hashes (M,): sorted, each once."""

    length: int
    hashes: Hashes

    @classmethod
    def of(cls, ids: np.ndarray, starts: np.ndarray, length: int) -> KnownSequences:
        """Those of documents. ids (N,) · starts (documents + 1,)."""
        return cls(length, np.unique(hash_sequences(ids, starts, length)))

    def contain(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Which of some sequences are known, given their hashes."""
        places = np.searchsorted(self.hashes, hashes)
        known: NDArray[np.bool_] = np.zeros(len(hashes), bool)
        inside = places < len(self.hashes)
        known[inside] = self.hashes[places[inside]] == hashes[inside]
        return known

    def completing(self, ids: Ids, vocab_size: int) -> Ids:
        """The ids that, written next after `ids` (T,), would complete a known sequence."""
        before = self.length - 1
        if len(ids) < before:
            return np.empty(0, np.int64)
        newest = ids[len(ids) - before :]
        # The hash of the newest ids and a next id is this number + id + 1.
        base = hash_sequences(newest, np.array([0, before]), before) * _FACTOR
        first, last = base + np.uint64(1), base + np.uint64(vocab_size)
        low = int(np.searchsorted(self.hashes, first[0]))
        high = int(np.searchsorted(self.hashes, last[0], side="right"))
        if last[0] >= first[0]:
            found = self.hashes[low:high]
        else:  # the numbers go on from 0
            found = np.concatenate([self.hashes[low:], self.hashes[:high]])
        return (found - first).astype(np.int64)
