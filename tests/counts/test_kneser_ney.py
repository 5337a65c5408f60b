"""Counts against a plain enumeration, written from the definition with dicts and loops."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from textwright.counts.kneser_ney import KneserNey, _discounts, count_model, count_models

STOP, VOCABULARY = 0, 7


def corpus(seed: int, documents: int, longest: int) -> list[list[int]]:
    """Documents of the ids 1 … 6, in which some follow others far more often; one is empty."""
    random = np.random.default_rng(seed)
    found = []
    for length in random.integers(1, longest, documents - 1):
        ids = [int(random.integers(1, VOCABULARY))]
        for _ in range(length - 1):
            follows = random.random() < 0.7
            ids.append(ids[-1] % 6 + 1 if follows else int(random.integers(1, VOCABULARY)))
        found.append(ids)
    return [*found, []]


def rows_of(documents: list[list[int]]) -> list[np.ndarray]:
    return [np.array([STOP, *ids, STOP]) for ids in documents]


def counted(documents: list[list[int]], order: int) -> KneserNey:
    ids = np.array([token for ids in documents for token in ids])
    starts = np.cumsum([0, *map(len, documents)])
    return count_model(ids, starts, STOP, VOCABULARY, order)


def test_openings_are_counted_after_the_stop_and_nowhere_else():
    found = corpus(4, 30, 20)
    ids = np.array([token for row in found for token in row])
    starts = np.cumsum([0, *map(len, found)])
    plain = count_model(ids, starts, STOP, VOCABULARY, 3)
    *_, opened = count_models(ids, starts, STOP, VOCABULARY, 3, openings=[5] * 50 + [6] * 50)
    contexts = opened.read(opened.begin(1), np.array([STOP]))
    p = opened.distribution(contexts)[0]
    assert p.sum() == pytest.approx(1) and min(p[5], p[6]) > 0.35
    for row in rows_of(found):  # every other context has the same counts
        rests = [row[1:]]
        assert scored(opened, rests)[0][1:] == pytest.approx(scored(plain, rests)[0][1:], rel=0.1)


def scored(model: KneserNey, rows: list[np.ndarray]) -> list[np.ndarray]:
    """The probability of every target (row[1:]) of each row."""
    targets = np.concatenate([row[1:] for row in rows])
    p = model.probabilities(model.contexts_of(rows), targets)
    return np.split(p, np.cumsum([len(row) - 1 for row in rows])[:-1])


class Enumerated:
    """The definition: Chen & Goodman 1999, equations 24 to 26, with KenLM's counts at a document's
    beginning and a last level of 1 / V."""

    def __init__(self, documents: list[list[int]], order: int):
        raw = [Counter() for _ in range(order)]
        for row in rows_of(documents):
            ids = row.tolist()
            for end in range(1, len(ids)):
                for n in range(1, min(order, end + 1) + 1):
                    raw[n - 1][(end - n + 1 == 0, *ids[end - n + 1 : end + 1])] += 1
        # The first item says whether the n-gram begins a document: only then is its first stop no
        # target, and nothing comes before it.
        self.counts: list[dict[tuple, int]] = []
        for n in range(1, order + 1):
            if n == order:
                self.counts.append({key[1:]: c for key, c in raw[n - 1].items()})
                continue
            before = defaultdict(set)
            for _, first, *rest in raw[n]:
                before[tuple(rest)].add(first)
            adjusted = {key: len(firsts) for key, firsts in before.items()}
            adjusted |= {key[1:]: c for key, c in raw[n - 1].items() if n > 1 and key[0]}
            self.counts.append(adjusted)
        self.discounts = [self.discounts_of(Counter(c.values())) for c in self.counts]

    @staticmethod
    def discounts_of(n: Counter) -> list[float]:
        if not all(n[k] for k in (1, 2, 3, 4)):
            return [0, 0.5, 1, 1.5]
        y = n[1] / (n[1] + 2 * n[2])
        found = [0, *(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))]
        return found if min(found[1:]) > 1e-3 else [0, 0.5, 1, 1.5]

    def probability(self, context: tuple[int, ...], token: int) -> float:
        n = len(context) + 1
        counts, discounts = self.counts[n - 1], self.discounts[n - 1]
        lower = self.probability(context[1:], token) if context else 1 / VOCABULARY
        here = {key[-1]: c for key, c in counts.items() if key[:-1] == context and c}
        total = sum(here.values())
        if not total:
            return lower
        count = here.get(token, 0)
        freed = sum(discounts[min(c, 3)] for c in here.values())
        return (count - discounts[min(count, 3)]) / total + freed / total * lower


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize(("documents", "longest"), [(60, 12), (3, 4)])
def test_probabilities_are_those_of_the_definition(documents, longest, order) -> None:
    training, held_out = corpus(1, documents, longest), corpus(2, 20, 12)
    model, witness = counted(training, order), Enumerated(training, order)
    for row, found in zip(rows_of(held_out), scored(model, rows_of(held_out)), strict=True):
        expected = [
            witness.probability(tuple(row[max(0, end - order + 1) : end].tolist()), int(row[end]))
            for end in range(1, len(row))
        ]
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_every_distribution_sums_to_1_and_is_what_is_scored(order) -> None:
    model = counted(corpus(3, 50, 12), order)
    rows = rows_of(corpus(4, 10, 12))
    places = model.contexts_of(rows)
    together = model.distribution(places)
    at = 0
    for row, targets in zip(rows, scored(model, rows), strict=True):
        contexts = model.begin(1)
        for read, target, p in zip(row[:-1], row[1:], targets, strict=True):
            contexts = model.read(contexts, np.array([read]))
            assert (contexts[0] == places[at]).all()
            distribution = model.distribution(contexts)[0]
            assert (distribution == together[at]).all()
            at += 1
            assert distribution.sum() == pytest.approx(1, abs=1e-5)
            assert (distribution > 0).all()
            assert distribution[target] == pytest.approx(p, rel=1e-6)


def test_evidence_is_how_much_of_a_context_is_known_and_how_little_it_says() -> None:
    training = corpus(3, 50, 12)
    model, row = counted(training, 4), np.array([STOP, 1, 2, 3, 1, 5, 5, 5, 5])
    known = model.evidence(model.contexts_of([row]))
    text = [tuple(r.tolist()) for r in rows_of(training)]
    for end, (length, backoff) in enumerate(known, 1):
        context = tuple(row[:end].tolist())
        seen = [
            n
            for n in range(1, min(3, len(context)) + 1)
            if any(t[at : at + n] == context[-n:] for t in text for at in range(len(t) - n + 1))
        ]
        assert length == max(seen, default=0)
        # γ is the probability of a token that never follows the context, over the shorter one's.
        unseen = [
            token
            for token in range(VOCABULARY)
            if not any(
                t[at : at + len(context[-int(length) :]) + 1] == (*context[-int(length) :], token)
                for t in text
                for at in range(len(t))
            )
        ]
        longer, shorter = model.begin(1), model.begin(1)
        for token in context[-int(length) :]:
            longer = model.read(longer, np.array([token]))
        for token in context[len(context) - int(length) + 1 :]:
            shorter = model.read(shorter, np.array([token]))
        if unseen and len(context) > 1:
            found, below = (model.distribution(c)[0][unseen[0]] for c in (longer, shorter))
            assert backoff == pytest.approx(found / below, rel=1e-4)


def test_no_ngram_crosses_the_end_of_a_document() -> None:
    apart, together = counted([[1, 2], [3, 4]], 3), counted([[1, 2, 3, 4]], 3)
    two_three = rows_of([[2, 3]])
    assert scored(apart, two_three)[0][1] < scored(together, two_three)[0][1]
    assert len(apart.levels[1].keys) == 6  # stop 1, 1 2, 2 stop, stop 3, 3 4, 4 stop


def test_the_order_is_at_most_the_longest_document_with_its_stops() -> None:
    assert counted([[1], []], 6).order == 3


def test_a_model_is_the_same_after_it_was_kept_as_arrays() -> None:
    model = counted(corpus(5, 30, 10), 4)
    again = KneserNey.from_arrays(model.arrays())
    rows = rows_of(corpus(6, 5, 10))
    for before, after in zip(scored(model, rows), scored(again, rows), strict=True):
        assert (before == after).all()


def test_a_discount_of_zero_is_not_taken():
    """Six tokens once, three twice, four three times and one four times: the formula gives 0 to
    those of two, after which a context that has no others would leave nothing to what it lacks."""
    often = [1] * 6 + [2] * 3 + [3] * 4 + [4]
    assert _discounts(np.array(often)).tolist() == [0, 0.5, 1, 1.5]
