"""The tokenizer that a corpus gives."""

from __future__ import annotations

import math
from itertools import islice

from textwright.corpus import Corpus
from textwright.tokenizer import Tokenizer, TokenizerOptions

# Merges of a longer text are learned from so much of it. The trainer keeps every different word,
# and in scripts without spaces nearly every clause is one.
LEARNED = 20_000_000  # characters


def train_tokenizer(options: TokenizerOptions, corpus: Corpus) -> Tokenizer:
    """Train a tokenizer on the training text, byte-level BPE on evenly spaced pieces of it where it
    is very long."""
    stride = 1
    if options.kind == "bpe":
        stride = math.ceil(corpus.scan().characters / LEARNED)
    pieces = islice(corpus.pieces("train"), 0, None, stride)
    return Tokenizer.train(options, (piece.text for piece in pieces))
