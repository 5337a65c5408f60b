"""How varied texts are: distinct n-grams, self-BLEU, repetition within a text, loops at its end.

All are counted in words: runs of letters, marks and digits, each punctuation mark, and each letter
of the scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese,
Tibetan). Case is ignored, because some models write lower case only.

The measures depend on how much text there is (the more text, the fewer of its n-grams are new), so
sets of texts are made equal in size before they are compared: see `match_sizes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import pre_tokenizers

LONGEST = 4  # words of an n-gram: of BLEU, and of a repetition within a text
LOOP = 2, 3  # a loop is at least so many words, at least so many times
MISSED = 0.1  # matches counted where there are none: "method 1" of Chen & Cherry 2014
_UNSPACED = "".join(
    rf"\p{{{script}}}"
    for script in ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan")
)
_WORD = rf"[{_UNSPACED}]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]&&[^{_UNSPACED}]]+|\S"
_WORDS = pre_tokenizers.Split(tokenizers.Regex(_WORD), "removed", invert=True)

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Diversity:
    """Of a set of texts, after `match_sizes`:

    texts, words: their number · distinct_n: different n-grams, as a share of all (Li et al. 2016) ·
    self_bleu: mean BLEU-4 of each text with all others as references, 0 to 1 (Zhu et al. 2018);
    high where texts are alike · repetition: share of a text's 4-grams that it holds already, mean
    over texts (Welleck et al. 2020) · loops: share of the uncut texts that end in a phrase of two
    words or more written three times or more in a row (Holtzman et al. 2020).
    """

    texts: int
    words: int
    distinct_1: float
    distinct_2: float
    distinct_3: float
    self_bleu: float
    repetition: float
    loops: float

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def measure_diversity(sets: Sequence[Sequence[str]]) -> list[Diversity]:
    """The diversity of each set of texts, all made equal in size.

    Takes a second for ten sets of 200 texts of 100 words.
    """
    split = [split_words(texts) for texts in sets]
    return [
        _measure(matched, uncut) for matched, uncut in zip(match_sizes(split), split, strict=True)
    ]


def split_words(texts: Sequence[str]) -> list[list[str]]:
    """The words of each text, by the rule above."""
    return [[word.casefold() for word, _ in _WORDS.pre_tokenize_str(text)] for text in texts]


def word_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of each word of a text."""
    return [span for _, span in _WORDS.pre_tokenize_str(text)]


def match_sizes(sets: Sequence[Sequence[list[str]]]) -> list[list[list[str]]]:
    """Sets with equal numbers of texts and of words.

    Each keeps its first texts, as many as the smallest set has. Then the longest text of each set
    is cut to the length of the shortest of these, the second longest likewise, and so on.
    """
    count = min(map(len, sets), default=0)
    ranked = [sorted(texts[:count], key=len, reverse=True) for texts in sets]
    lengths = [min(map(len, rank)) for rank in zip(*ranked, strict=True)]
    return [
        [text[:length] for text, length in zip(texts, lengths, strict=True)] for texts in ranked
    ]


def self_bleu(texts: Sequence[list[str]]) -> float:
    """Mean BLEU-4 of each text with all others as references (Zhu et al. 2018). 0 for one text.

    Orders of n-gram that a text is too short for are left out of its mean; an n-gram order without
    a match counts `MISSED` matches, so that one such does not make the whole 0.
    """
    return self_bleus(texts, [np.arange(len(texts))])[0]


def self_bleus(texts: Sequence[list[str]], subsets: Sequence[Ids]) -> list[float]:
    """The self-BLEU of each subset of the texts by itself; a subset is the places of its texts."""
    ngrams = _ngrams(texts)
    lengths = np.array([len(text) for text in texts])
    found = []
    for chosen in subsets:
        place = np.full(len(texts), -1)
        place[chosen] = np.arange(len(chosen))
        inside = [
            _NGrams(grams.gram[keep], place[grams.text[keep]])
            for grams in ngrams
            for keep in [place[grams.text] >= 0]
        ]
        logs = _log_bleu(inside, lengths[chosen]) if len(chosen) > 1 else np.array([-np.inf])
        found.append(float(np.exp(logs).mean()))
    return found


def repetitions(texts: Sequence[list[str]]) -> NDArray[np.float64]:
    """The share of each text's 4-grams that it holds already, (texts,); 0 for shorter texts
    (Welleck et al. 2020)."""
    grams = _ngrams(texts)[-1]
    total = np.bincount(grams.text, minlength=len(texts))
    different = np.bincount(_per_text(grams)[1], minlength=len(texts))
    return 1 - np.where(total > 0, different, 1) / np.maximum(1, total)


def ends_in_loop(words: list[str]) -> bool:
    """Whether the text ends in a phrase of two words or more, three times or more in a row."""
    least, times = LOOP
    for period in range(least, len(words) // times + 1):
        end = words[len(words) - times * period :]
        if end[:period] * times == end:
            return True
    return False


@dataclass(frozen=True)
class _NGrams:
    """The n-grams of one length: gram, text (G,), both numbered from 0, as they stand in line."""

    gram: Ids
    text: Ids


def _ngrams(texts: Sequence[list[str]]) -> list[_NGrams]:
    """The n-grams of length 1 to LONGEST; none crosses from one text to the next."""
    numbers: dict[str, int] = {}
    ids = np.array([numbers.setdefault(w, len(numbers)) for text in texts for w in text], np.int64)
    text = np.repeat(np.arange(len(texts)), [len(words) for words in texts])
    found = [_NGrams(ids, text)]
    gram = ids
    for n in range(2, LONGEST + 1):
        gram = np.unique(gram[:-1] * len(numbers) + ids[n - 1 :], return_inverse=True)[1]
        inside = text[: len(gram)] == text[n - 1 :]
        found.append(_NGrams(gram[inside], text[: len(gram)][inside]))
    return found


def _measure(texts: list[list[str]], uncut: Sequence[list[str]]) -> Diversity:
    ngrams = _ngrams(texts)
    lengths = np.array([len(text) for text in texts])
    distinct = [len(np.unique(grams.gram)) / max(1, len(grams.gram)) for grams in ngrams[:3]]
    return Diversity(
        texts=len(texts),
        words=int(lengths.sum()),
        distinct_1=distinct[0],
        distinct_2=distinct[1],
        distinct_3=distinct[2],
        self_bleu=self_bleu(texts),
        repetition=float(repetitions(texts).mean()) if texts else 0.0,
        loops=float(np.mean([ends_in_loop(words) for words in uncut])) if uncut else 0.0,
    )


def _per_text(grams: _NGrams) -> tuple[Ids, Ids, Ids]:
    """Each different n-gram of each text: gram, text and how often, sorted by gram."""
    texts = int(grams.text.max(initial=0)) + 1
    keys, counts = np.unique(grams.gram * texts + grams.text, return_counts=True)
    return keys // texts, keys % texts, counts


def _log_bleu(ngrams: list[_NGrams], lengths: Ids) -> NDArray[np.float64]:
    """The logarithm of each text's BLEU with the others as references, (texts,)."""
    sums, orders = np.zeros(len(lengths)), np.zeros(len(lengths))
    for grams in ngrams:
        gram, text, counts = _per_text(grams)
        matches = np.bincount(text, np.minimum(counts, _most_elsewhere(gram, counts)), len(lengths))
        totals = np.bincount(grams.text, minlength=len(lengths))
        some = totals > 0
        hits = np.where(matches > 0, matches, MISSED)[some]
        sums[some] += np.log(hits / totals[some])
        orders += some
    # An empty text is like no other.
    means = np.where(orders > 0, sums / np.maximum(1, orders), -np.inf)
    return means + np.minimum(0, 1 - _nearest_length(lengths) / np.maximum(1, lengths))


def _most_elsewhere(gram: Ids, counts: Ids) -> Ids:
    """For each entry of `_per_text`, the most times that another text holds its n-gram.

    That is the highest count of the n-gram, or for the entry that has it, the second highest.
    """
    order = np.lexsort((-counts, gram))
    gram, counts = gram[order], counts[order]
    first = np.flatnonzero(np.diff(gram, prepend=-1))
    size = np.diff(first, append=len(gram))
    most = np.repeat(counts[first], size)
    most[first] = np.where(size > 1, counts[np.minimum(first + 1, len(counts) - 1)], 0)
    back = np.empty_like(most)
    back[order] = most
    return back


def _nearest_length(lengths: Ids) -> Ids:
    """For each text, the length among the others' that is nearest; of two, the shorter."""
    order = np.argsort(lengths, kind="stable")
    ranked = lengths[order]
    before, after = np.roll(ranked, 1), np.roll(ranked, -1)
    before[0], after[-1] = after[0], before[-1]
    nearest = np.empty_like(lengths)
    nearest[order] = np.where(ranked - before <= np.abs(after - ranked), before, after)
    return nearest
