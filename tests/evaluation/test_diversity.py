"""Diversity, against counting by hand."""

import math
import time
from collections import Counter

import numpy as np
import pytest

from textwright.evaluation.diversity import (
    MISSED,
    ends_in_loop,
    match_sizes,
    measure_diversity,
    self_bleu,
    self_bleus,
    split_words,
)


def grams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[at : at + n]) for at in range(len(words) - n + 1))


def bleu_by_hand(text: list[str], others: list[list[str]]) -> float:
    """Papineni et al. 2002 with several references, with loops."""
    if not text:
        return 0.0
    logs = []
    for n in range(1, 5):
        own = grams(text, n)
        if own:
            matches = sum(min(c, max(grams(o, n)[g] for o in others)) for g, c in own.items())
            logs.append(math.log((matches or MISSED) / own.total()))
    nearest = min((abs(len(o) - len(text)), len(o)) for o in others)[1]
    return math.exp(sum(logs) / len(logs) + min(0.0, 1 - nearest / len(text)))


def drawn(seed: int, count: int, longest: int, words: str = "abcd") -> list[list[str]]:
    random = np.random.default_rng(seed)
    return [random.choice(list(words), random.integers(0, longest)).tolist() for _ in range(count)]


@pytest.mark.parametrize("seed", range(8))
def test_self_bleu_is_the_mean_of_each_text_against_all_others(seed):
    texts = drawn(seed, 12, 15)
    expected = [bleu_by_hand(t, texts[:at] + texts[at + 1 :]) for at, t in enumerate(texts)]
    assert self_bleu(texts) == pytest.approx(np.mean(expected))


def test_self_bleu_of_a_subset_does_not_see_the_other_texts():
    texts = drawn(5, 12, 15)
    subsets = [np.array([3, 0, 7, 11]), np.array([2, 5, 6])]
    expected = [self_bleu([texts[place] for place in chosen]) for chosen in subsets]
    assert self_bleus(texts, subsets) == pytest.approx(expected)


def test_self_bleu_of_equal_texts_is_1_and_of_a_single_text_0():
    assert self_bleu([list("abcde")] * 3) == pytest.approx(1)
    assert self_bleu([list("abcde")]) == 0


@pytest.mark.parametrize("seed", range(4))
def test_shares_are_those_of_counting_by_hand(seed):
    texts = drawn(seed, 20, 30)
    (found,) = measure_diversity([[" ".join(text) for text in texts]])
    for n, share in enumerate((found.distinct_1, found.distinct_2, found.distinct_3), 1):
        every = sum((grams(text, n) for text in texts), Counter())
        assert share == pytest.approx(len(every) / every.total())
    fours = [(len(own), own.total()) for text in texts for own in [grams(text, 4)]]
    shares = [1 - different / total if total else 0 for different, total in fours]
    assert found.repetition == pytest.approx(np.mean(shares))
    assert (found.texts, found.words) == (20, sum(map(len, texts)))


def test_a_loop_is_a_phrase_three_times_at_the_end():
    assert ends_in_loop(list("wgawgawga"))
    assert ends_in_loop(list("xyababab"))
    assert not ends_in_loop(list("abababxy"))
    assert not ends_in_loop(list("sss"))  # one word: emphasis
    assert not ends_in_loop(list("abab"))


def test_words_are_found_in_every_script():
    texts = ["Don't stop, 3 Times!", "हिन्दी में", "我喜欢 tea", "ラーメン", "ไก่", "Ünḯt"]
    assert split_words(texts) == [
        ["don", "'", "t", "stop", ",", "3", "times", "!"],
        ["हिन्दी", "में"],
        ["我", "喜", "欢", "tea"],
        ["ラ", "ー", "メ", "ン"],
        ["ไ", "ก่"],
        ["ünḯt"],
    ]


def test_sets_are_compared_at_equal_size():
    long, short = drawn(1, 30, 40), drawn(2, 20, 10)
    matched = match_sizes([long, short])
    assert [len(texts) for texts in matched] == [20, 20]
    assert [len(text) for text in matched[0]] == [len(text) for text in matched[1]]
    # Half of the words of one source, and all of them: unequal sizes would tell them apart.
    text = " ".join(np.random.default_rng(3).integers(0, 500, 4000).astype(str))
    half, whole = measure_diversity([[text[: len(text) // 2]], [text]])
    assert half.distinct_1 == pytest.approx(whole.distinct_1)
    assert measure_diversity([[text]])[0].distinct_1 < 0.75 * half.distinct_1


def test_empty_sets_and_texts_are_measured():
    (nothing,) = measure_diversity([[]])
    assert (nothing.texts, nothing.words, nothing.self_bleu) == (0, 0, 0)
    (empty,) = measure_diversity([["", " "]])
    assert (empty.texts, empty.words, empty.self_bleu, empty.distinct_1) == (2, 0, 0, 0)
    assert measure_diversity([]) == []


def test_hundreds_of_long_texts_take_little_time():
    random = np.random.default_rng(0)
    texts = [" ".join(random.zipf(1.5, 300).astype(str)) for _ in range(300)]
    began = time.process_time()
    measure_diversity([texts])
    assert time.process_time() - began < 5  # a second on a laptop
