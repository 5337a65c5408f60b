"""The tokenizer that a corpus gives."""

import pytest

from textwright.corpus import Corpus
from textwright.tokenizer import TokenizerOptions
from textwright.training import vocabulary
from textwright.training.vocabulary import train_tokenizer


@pytest.mark.parametrize(("kind", "whole"), [("bpe", False), ("word", True)])
def test_merges_of_a_long_text_are_learned_from_pieces_all_over_it(notes, monkeypatch, kind, whole):
    corpus = Corpus(notes)
    options = TokenizerOptions(kind=kind, vocab_size=400)

    def tokens() -> list[str]:
        tokenizer = train_tokenizer(options, corpus)
        return tokenizer.tokens(range(tokenizer.vocab_size))

    all_of_it = tokens()
    monkeypatch.setattr(vocabulary, "LEARNED", corpus.scan().characters)
    assert tokens() == all_of_it
    monkeypatch.setattr(vocabulary, "LEARNED", corpus.scan().characters // 3)
    assert (tokens() == all_of_it) is whole
