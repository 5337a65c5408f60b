"""Longest matches and their sources, against a search of every substring."""

import random
import sys

import numpy as np
import pytest

from textwright.errors import EvaluationError
from textwright.memorisation.suffixes import Source, SuffixArray

ALPHABET = "ab é\n漢"  # few characters, of one to three bytes


def draw(rng: random.Random, least: int, most: int) -> str:
    return "".join(rng.choice(ALPHABET) for _ in range(rng.randint(least, most)))


def occurrences(span: str, documents: list[str]) -> list[Source]:
    return [
        Source(number, offset)
        for number, document in enumerate(documents)
        for offset in range(len(document))
        if document.startswith(span, offset)
    ]


@pytest.mark.parametrize("seed", range(60))
def test_matches_counts_and_sources_are_those_of_a_plain_search(seed):
    rng = random.Random(seed)
    documents = [draw(rng, 1, 40) for _ in range(rng.randint(1, 6))]
    texts = [draw(rng, 0, 30) for _ in range(3)]
    suffixes = SuffixArray(documents)
    for text, matches in zip(texts, suffixes.matches(texts), strict=True):
        for start in range(len(text)):
            longest = max(
                length
                for length in range(len(text) - start + 1)
                if any(text[start : start + length] in document for document in documents)
            )
            assert matches.characters[start] == longest
            if longest:
                span = text[start : start + longest]
                expected = occurrences(span, documents)
                assert suffixes.source(int(matches.places[start])) in expected
                assert suffixes.count(span) == len(expected)
                assert suffixes.find(span, most=100) == expected


def test_a_match_longer_than_a_word_of_the_machine_is_measured_to_the_character():
    document = "The quick brown fox jumps over the lazy dog. " * 3
    suffixes = SuffixArray([document, "another"])
    for length in range(1, len(document)):
        (matches,) = suffixes.matches([document[:length] + "§"])
        assert matches.longest == length


def test_a_match_never_crosses_from_one_document_into_the_next():
    suffixes = SuffixArray(["one two", "three four"])
    (matches,) = suffixes.matches(["one twothree four"])
    assert matches.characters.tolist()[:8] == [7, 6, 5, 4, 3, 2, 1, 10]
    assert suffixes.count("twothree") == 0
    assert suffixes.find("twothree", most=3) == []


def test_known_sequences_are_those_that_occur():
    suffixes = SuffixArray(["abcdef"])
    (matches,) = suffixes.matches(["abcxdef"])
    assert matches.known(3).tolist() == [True, False, False, False, True]
    assert matches.known(8).tolist() == []


def test_memory_is_that_of_text_and_suffixes():
    suffixes = SuffixArray(["é" * 1000])
    assert suffixes.nbytes == 5 * 2001


def test_searching_in_parts_gives_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("abc "), 500))
    suffixes = SuffixArray([text[100:300], text[50:120]])
    whole = suffixes.matches([text])[0]
    monkeypatch.setattr("textwright.memorisation.suffixes._PLACES", 7)
    parts = suffixes.matches([text])[0]
    assert (whole.characters == parts.characters).all()
    assert (whole.places == parts.places).all()


def test_without_pydivsufsort_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydivsufsort", None)
    with pytest.raises(EvaluationError, match=r"pip install 'textwright\[report\]'"):
        SuffixArray(["text"])
