"""Counts of the text that is being read: names and phrases of this document, which no corpus knew.

After each context of 3, 2, 1 and 0 tokens, the tokens that followed it earlier in the same text
become likelier; the rest of the probability goes to the shorter context, and from the shortest to
what the corpus' counts say (absolute discounting, Ney et al. 1994; a cache of the document's own
n-grams, Kuhn & De Mori 1990). Nothing that comes later is looked at, so it is a distribution as any
other.

Letters: N tokens of text, V vocabulary, E kinds of evidence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

LONGEST = 3  # tokens of a context; 4 gained nothing
DISCOUNT = 0.6
# What is known of a place, for each length of context but 0: how much has followed the newest
# tokens earlier in the text, log(1 + count), and how varied it was, different tokens a token.
EVIDENCE = tuple(
    f"{what} {length}" for length in range(1, LONGEST + 1) for what in ("followed", "varied")
)
NOTHING_SEEN = np.tile([0.0, 1.0], LONGEST)  # evidence where the text never had the newest token


def recall(text: Ids, p: NDArray[np.floating]) -> Floats:
    """Turn the probability of every token by the corpus' counts (V,), in place, into that by the
    memory of a text that begins with the stop id, and return the evidence (E,)."""
    kept, evidence = 1.0, NOTHING_SEEN.copy()
    added: list[tuple[Ids, Floats, float]] = []  # ids, what each gains, what was kept so far
    # Where the newest tokens stood earlier, by their end. A whole text is read once, to be quick.
    same = (text[:-1] == text[-1]).nonzero()[0]
    for length in range(LONGEST + 1):
        if length > 1:
            same = same[same >= length - 1]
            same = same[text[same - length + 1] == text[-length]]
        followed = text[same + 1] if length else text[1:]
        if not len(followed):
            break  # no longer context stood here either
        ids, counts = _tally(followed)
        varied = len(ids) / len(followed)
        kept *= DISCOUNT * varied  # of what the shorter contexts say
        added.append((ids, (counts - DISCOUNT) / len(followed), kept))
        if length:
            evidence[2 * length - 2 : 2 * length] = np.log1p(len(followed)), varied
    p *= kept  # once, since the vocabulary is large and the text is short
    for ids, gain, then in added:
        p[ids] += gain * (kept / then)
    return evidence


def recall_targets(rows: Sequence[np.ndarray], base: Floats) -> tuple[Floats, Floats]:
    """The probability of all targets (row[1:]) of all rows in a line (N,) by `recall` of what comes
    before them in their row, and the evidence (N, E).

    base (N,): their probability by the corpus' counts.
    """
    targets = np.concatenate([row[1:] for row in rows]).astype(np.int64)
    contexts = np.repeat(np.arange(len(rows)), [len(row) - 1 for row in rows])
    p, evidence = base, np.tile(NOTHING_SEEN, (len(base), 1))
    for length in range(LONGEST + 1):
        if length:  # a number for each row and its newest ids
            newest = [_shifted(row, length) for row in rows]
            contexts = _numbered(contexts, np.concatenate(newest))
        followed = _earlier(contexts)
        counts = _earlier(_numbered(contexts, targets))
        kinds = _sum_of_earlier(contexts, counts == 0)
        known = followed > 0
        total = np.maximum(followed, 1)
        p = np.where(known, (np.maximum(counts - DISCOUNT, 0) + DISCOUNT * kinds * p) / total, p)
        if length:
            evidence[:, 2 * length - 2] = np.log1p(followed)
            evidence[:, 2 * length - 1] = np.where(known, kinds / total, 1.0)
    return p, evidence


def _tally(ids: Ids) -> tuple[Ids, Ids]:
    """The different ids of one or more, ascending, and how often each occurs; quicker than
    `np.unique` where there are few."""
    ordered = np.sort(ids)
    ends = np.empty(len(ids), bool)
    ends[-1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=ends[:-1])
    last = ends.nonzero()[0]
    counts = last + 1
    counts[1:] -= counts[:-1]
    return ordered[last], counts


def _shifted(row: np.ndarray, back: int) -> Ids:
    """The id so many places before each target; −1 before the row's begin."""
    before = np.full(len(row) - 1, -1, np.int64)
    before[back - 1 :] = row[: max(0, len(row) - back)]
    return before


def _numbered(first: Ids, second: Ids) -> Ids:
    """A number for each different pair."""
    pairs = first * (int(second.max(initial=0)) + 2) + second + 1
    return np.unique(pairs, return_inverse=True)[1].astype(np.int64)


def _earlier(keys: Ids) -> Ids:
    """How many of the places before each one have its key."""
    return _sum_of_earlier(keys, np.ones(len(keys), bool))


def _sum_of_earlier(keys: Ids, marked: NDArray[np.bool_]) -> Ids:
    """How many of the places before each one have its key and are marked."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    before: Ids = np.cumsum(marked[order]) - marked[order]
    begins = np.ones(len(keys), bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    found = np.empty(len(keys), np.int64)
    found[order] = before - np.maximum.accumulate(np.where(begins, before, 0))
    return found
