"""Interpolated modified Kneser-Ney: a language model that is counted, not trained.

The probability of a token after a context is, with D a discount and γ what the discounts freed,

    p(t | context) = (count(context t) − D) / count(context) + γ(context) · p(t | shorter context)

down to the single token and to 1/V. In shorter contexts the count is the number of different tokens
that come before (a token that follows one word alone says little about what follows others), except
at the beginning of a document, where nothing comes before. Chen & Goodman 1999, section 3.4; the
discounts and the counts at a document's beginning are those of KenLM (Heafield et al. 2013).

An n-gram is a node of a tree: its parent is the n-gram without its last token. Level n holds the
nodes of length n, sorted by `key` = parent · V + token, so a node is found by one binary search and
the children of a parent lie side by side. No n-gram crosses the end of a document.

Letters: N tokens of text, B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

LEAST = 1e-3  # a discount
NONE = -1  # in place of a node: the text has no such n-gram
# What is known of a context: the tokens of its longest part that the text has, and γ of that part.
EVIDENCE = ("known", "backoff")


@dataclass(frozen=True)
class Level:
    """The n-grams of one length n. probability: the discounted share of the last token after the
    others · backoff: γ of the n-gram as a context, 1 where nothing follows it; empty in the
    longest level. At level 1 a node is its token, and the keys are 0 … V − 1."""

    keys: Ids
    probability: NDArray[np.float32]
    backoff: NDArray[np.float32]


@dataclass(frozen=True)
class Counted:
    """How often each n-gram of one length occurs, before smoothing. suffix: the node of the
    n-gram without its first token · opens: whether it begins a document."""

    keys: Ids
    counts: NDArray[np.integer]
    suffix: NDArray[np.integer]
    opens: NDArray[np.bool_]


class KneserNey:
    """A smoothed model of n-grams up to `order`."""

    def __init__(self, vocab_size: int, levels: Sequence[Level]):
        self.vocab_size, self.levels = vocab_size, list(levels)

    @property
    def order(self) -> int:
        return len(self.levels)

    @cached_property
    def lacking(self) -> list[int]:
        """The ids that the text never has; none are known of a model of single tokens."""
        never = np.ones(self.vocab_size, bool)
        never[self.levels[1].keys % self.vocab_size if self.order > 1 else slice(None)] = False
        return never.nonzero()[0].tolist()

    def arrays(self) -> dict[str, np.ndarray]:
        """The model as named arrays, for a file."""
        return {
            f"{n}.{name}": array
            for n, level in enumerate(self.levels, 1)
            for name, array in vars(level).items()
            if not (n == 1 and name == "keys")
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> KneserNey:
        """The model of arrays that `arrays` gave."""
        vocab_size = len(arrays["1.probability"])
        order = sum(name.endswith(".probability") for name in arrays)
        keys = {"1.keys": np.arange(vocab_size, dtype=np.int64)}
        # Plain views of what may be memory-mapped: numpy indexes its memmaps more slowly.
        named = {name: np.asarray(array) for name, array in {**arrays, **keys}.items()}
        fields = ("keys", "probability", "backoff")
        levels = [Level(*(named[f"{n}.{field}"] for field in fields)) for n in range(1, order + 1)]
        return cls(vocab_size, levels)

    def begin(self, rows: int) -> Ids:
        """The contexts of rows that have read nothing, (B, order − 1): the node of the newest
        1, 2, … tokens of each row."""
        return np.full((rows, self.order - 1), NONE, np.int64)

    def read(self, contexts: Ids, ids: Ids) -> Ids:
        """The contexts after one more token of each row; ids (B,)."""
        after = np.empty_like(contexts)
        for n in range(self.order - 1):
            after[:, n] = ids if n == 0 else self._find(n, contexts[:, n - 1], ids)
        return after

    def distribution(self, contexts: Ids) -> Floats:
        """The probability of every token after each context, (B, V)."""
        p = np.zeros(len(contexts) * self.vocab_size)
        kept = np.ones(len(contexts))
        for places, gained in self._followers(contexts, kept, 1):
            p[places] += gained
        shorter = kept[:, None] * self.levels[0].probability
        return p.reshape(-1, self.vocab_size) + shorter

    def beyond_pairs(self, contexts: Ids) -> tuple[Ids, Floats, Floats]:
        """What contexts of two and more tokens add to those of the newest token alone: places in
        (B, V), ascending, what is added there, and the share (B,) of the shorter context."""
        kept = np.ones(len(contexts))
        found = list(self._followers(contexts, kept, 2))
        if not found:
            return np.empty(0, np.int64), np.empty(0), kept
        places, added = found[-1]  # what follows a longer context follows each shorter one, too
        for longer, gained in found[:-1]:
            added[places.searchsorted(longer)] += gained
        return places, added, kept

    def _followers(
        self, contexts: Ids, kept: Floats, shortest: int
    ) -> Iterator[tuple[Ids, Floats]]:
        """Which tokens follow contexts of each length, from the longest to the `shortest`, as
        places in (B, V), ascending, and what they gain; kept (B,), ones at first: the share that is
        left for shorter contexts."""
        size = self.vocab_size
        for n in range(self.order - 2, shortest - 2, -1):
            known = np.flatnonzero(contexts[:, n] != NONE)
            if not len(known):
                continue
            nodes, here, longer = contexts[known, n], self.levels[n], self.levels[n + 1]
            first = nodes * size
            begins, ends = longer.keys.searchsorted([first, first + size])
            counts = ends - begins
            total = counts.cumsum()
            children = np.arange(total[-1]) + np.repeat(ends - total, counts)
            places = longer.keys[children] + np.repeat(known * size - first, counts)
            yield places, longer.probability[children] * np.repeat(kept[known], counts)
            kept[known] *= here.backoff[nodes]

    def contexts_of(self, rows: Sequence[np.ndarray]) -> Ids:
        """The contexts of all targets (row[1:]) of all rows in a line, (N, order − 1)."""
        ids = np.concatenate(rows).astype(np.int64)
        ends = np.cumsum([len(row) for row in rows])
        first = np.zeros(len(ids), bool)
        first[[0, *ends[:-1]]] = True
        contexts = np.empty((len(ids), self.order - 1), np.int64)
        nodes = ids
        for n in range(self.order - 1):
            if n:
                nodes = self._find(n, np.where(first, NONE, np.roll(nodes, 1)), ids)
            contexts[:, n] = nodes
        return np.delete(contexts, ends - 1, axis=0)

    def probabilities(self, contexts: Ids, ids: Ids) -> Floats:
        """The probability of one token after each context; contexts (N, order − 1), ids (N,)."""
        p = self.levels[0].probability[ids].astype(np.float64)
        for n in range(1, self.order):
            nodes = contexts[:, n - 1]
            found = self._find(n, nodes, ids)
            known = nodes != NONE
            p *= np.where(known, self.levels[n - 1].backoff[nodes], 1.0)
            p += np.where(found != NONE, self.levels[n].probability[found], 0.0)
        return p

    def evidence(self, contexts: Ids) -> Floats:
        """What is known of each context, (N, 2), in the order of EVIDENCE."""
        known, backoff = np.zeros(len(contexts)), np.ones(len(contexts))
        for n, nodes in enumerate(contexts.T):
            has = nodes != NONE
            known[has] = n + 1
            backoff[has] = self.levels[n].backoff[nodes[has]]
        return np.stack([known, backoff], 1)

    def _find(self, n: int, parents: Ids, ids: Ids) -> Ids:
        """The node at level n + 1 of each parent at level n followed by a token, or NONE."""
        keys = self.levels[n].keys
        wanted = parents * self.vocab_size + ids
        places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((parents != NONE) & (keys[places] == wanted), places, NONE)


def count_model(
    ids: np.ndarray, starts: np.ndarray, stop: int, vocab_size: int, order: int
) -> KneserNey:
    """The model of this order, or of the length of the longest document. See `count_models`."""
    for model in count_models(ids, starts, stop, vocab_size, order):
        longest = model
    return longest


def count_models(
    ids: np.ndarray,
    starts: np.ndarray,
    stop: int,
    vocab_size: int,
    longest: int,
    openings: Sequence[int] | np.ndarray = (),
) -> Iterator[KneserNey]:
    """Models of order 1, 2, … up to `longest`, or to the length of the longest document.

    ids (N,) of all documents in a line · starts (documents + 1,): where each begins · stop: the id
    before and after each document · openings: ids that may begin a document, too, each counted once
    more after the stop. Takes about 100 bytes of memory for each id, and 16 for each
    n-gram; each model has all but the two longest levels of the one before.
    """
    levels: list[Level] = []
    shorter: Counted | None = None
    for newest in _count(ids, starts, stop, vocab_size, longest, np.asarray(openings, np.int64)):
        if shorter is not None:  # which is no longer the longest: the tokens before it count
            before = np.bincount(newest.suffix, minlength=len(shorter.keys))
            counts = np.where(shorter.opens, shorter.counts, before)
            levels = _with_level(levels[:-1], shorter.keys, counts, vocab_size)
        levels = _with_level(levels, newest.keys, newest.counts, vocab_size)
        shorter = newest
        yield KneserNey(vocab_size, levels)


def _count(
    ids: np.ndarray, starts: np.ndarray, stop: int, vocab_size: int, longest: int, openings: Ids
) -> Iterator[Counted]:
    """Count the n-grams of length 1, 2, …; arguments as for `count_models`."""
    lengths = np.diff(starts) + 2
    opening = np.cumsum([0, *lengths[:-1].tolist()])
    text = np.full(int(lengths.sum()), stop, np.int32)
    inside = np.ones(len(text), bool)
    inside[opening] = inside[opening + lengths - 1] = False
    text[inside] = ids
    place = np.arange(len(text), dtype=np.int32)  # in its document
    place -= np.repeat(opening.astype(np.int32), lengths)
    targets = np.bincount(text[place > 0], minlength=vocab_size)
    every = np.arange(vocab_size, dtype=np.int64)
    yield Counted(every, targets, np.zeros_like(every), np.zeros(vocab_size, bool))
    nodes = text
    for n in range(2, longest + 1):
        if place.max() < n - 1:  # no document is as long
            return
        counted, nodes = _lengthen(nodes, text, place, n, vocab_size)
        if n == 2 and len(openings):
            counted, new_nodes = _with_openings(counted, openings, stop, vocab_size)
            nodes = np.where(nodes == NONE, NONE, new_nodes[nodes])
        yield counted


def _lengthen(
    nodes: NDArray[np.int32],
    text: NDArray[np.int32],
    place: NDArray[np.int32],
    n: int,
    vocab_size: int,
) -> tuple[Counted, NDArray[np.int32]]:
    """The n-grams of length n, and the node of the one that ends at each place of the text.

    nodes: the node of the one shorter there · place: of each token in its document.
    """
    ends = np.flatnonzero(place >= n - 1)
    keys, seen, node, counts = np.unique(
        nodes[ends - 1] * np.int64(vocab_size) + text[ends],
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    some = ends[seen]
    counted = Counted(keys, counts.astype(np.int32), nodes[some], place[some] == n - 1)
    longer = np.full(len(text), NONE, np.int32)
    longer[ends] = node
    return counted, longer


def _with_openings(
    pairs: Counted, openings: Ids, stop: int, vocab_size: int
) -> tuple[Counted, NDArray[np.int32]]:
    """The pairs with one more of the stop and each of these ids, and the new node of each pair."""
    begun, more = np.unique(stop * vocab_size + openings, return_counts=True)
    keys = np.union1d(pairs.keys, begun)
    new_nodes = np.searchsorted(keys, pairs.keys)
    counts = np.zeros(len(keys), np.int32)
    counts[new_nodes] = pairs.counts
    counts[np.searchsorted(keys, begun)] += more.astype(np.int32)
    suffix, opens = (keys % vocab_size).astype(np.int32), keys // vocab_size == stop
    return Counted(keys, counts, suffix, opens), new_nodes.astype(np.int32)


def _with_level(
    shorter: Sequence[Level], keys: Ids, counts: NDArray[np.integer], vocab_size: int
) -> list[Level]:
    """The levels with one more, of n-grams that count as often as this."""
    discount = _discounts(counts)[np.minimum(counts, 3)]
    parents = keys // vocab_size if shorter else np.zeros_like(keys)
    of_parents = len(shorter[-1].keys) if shorter else 1
    totals = np.bincount(parents, counts, of_parents)
    freed = np.bincount(parents, discount, of_parents)
    known = totals > 0
    backoff = np.divide(freed, totals, out=np.ones(of_parents), where=known)
    share = (counts - discount) / np.where(known, totals, 1)[parents]
    before = list(shorter)
    if before:
        before[-1] = replace(before[-1], backoff=backoff.astype(np.float32))
    else:
        share += backoff / vocab_size
    return [*before, Level(keys, share.astype(np.float32), np.empty(0, np.float32))]


def _discounts(counts: NDArray[np.integer]) -> Floats:
    """The discounts of n-grams counted 0, 1, 2, and 3 or more times (Chen & Goodman 1999,
    equation 26), or 0, 0.5, 1 and 1.5 where the counts are too few to tell: without a discount,
    what a context has never had would be impossible."""
    n = np.bincount(np.minimum(counts, 5), minlength=6)[:5].astype(np.float64)
    fallback = np.array([0.0, 0.5, 1.0, 1.5])
    if not n[1:5].all():
        return fallback
    y = n[1] / (n[1] + 2 * n[2])
    found = np.array([0.0, *(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))])
    return found if (found[1:] > LEAST).all() else fallback
