"""Paragraphs of a long text that are read as if a text began with them.

A text that is written without a prompt begins after the stop id. Where the corpus is one novel, a
model sees what follows it once an epoch, always the same, and would begin with pieces of words. So
in some rows, a paragraph follows the stop id instead of the line break before it. What the line
before is to predict stays the line break: texts do not end with paragraphs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from textwright.config import Config
from textwright.tokenizer import Tokenizer
from textwright.training.dataset import Batch, choose_layout
from textwright.training.encoded import Documents

SAMPLED = 1_000_000  # ids that say whether there are empty lines between paragraphs
USUAL = 5_000  # ids: where empty lines are rarer, each line is a paragraph


@dataclass(frozen=True)
class Opener:
    """breaks (V,): how many line breaks each token ends with · empty (V,) bool: tokens of nothing
    but line breaks · wanted: line breaks before a paragraph, 1 or 2 · rate: share of the rows that
    one is opened in."""

    breaks: NDArray[np.int64]
    empty: NDArray[np.bool_]
    wanted: int
    stop_id: int
    rate: float
    seed: int

    @classmethod
    def wanted_by(cls, config: Config, documents: Documents, tokenizer: Tokenizer) -> Opener | None:
        """The one that a config asks for; None where it asks for none, or where each document
        begins a row anyway."""
        rate = config.train.open_paragraphs
        if not rate or choose_layout(config, documents).data.layout == "rows":
            return None
        return cls.of(documents, tokenizer, rate, config.train.seed)

    @classmethod
    def of(cls, documents: Documents, tokenizer: Tokenizer, rate: float, seed: int) -> Opener:
        """For the paragraphs of these documents."""
        texts = tokenizer.texts(range(tokenizer.vocab_size))
        breaks = np.array([text[len(text.rstrip("\r\n")) :].count("\n") for text in texts])
        empty = np.array([bool(text) and not text.strip("\r\n") for text in texts])
        opener = cls(breaks, empty, 2, documents.stop_id, rate, seed)
        sample = np.asarray(documents.ids[:SAMPLED], np.int64)
        if len(opener.places(sample)) * USUAL < len(sample):
            opener = replace(opener, wanted=1)
        return opener

    def places(self, row: np.ndarray) -> np.ndarray:
        """Where in a row (T,) a paragraph follows, which has to begin before the row ends."""
        ended = self.breaks[row]
        ended[1:] += np.where(self.empty[row[1:]], self.breaks[row[:-1]], 0)
        begins = ~self.empty[row[1:]] & (row[1:] != self.stop_id)
        return np.flatnonzero((ended[:-1] >= self.wanted) & begins)

    def openings(self, documents: Documents) -> np.ndarray:
        """The ids that begin the paragraphs of these documents, in their order."""
        ids = np.asarray(documents.ids, np.int64)
        return ids[self.places(ids) + 1]

    def open(self, batch: Batch, step: int, share: int, shares: int, done: float) -> Batch:
        """The batch with the stop id before some paragraphs.

        batch: one share of the rows of a step. What is drawn for a row depends on the seed, the
        step and its place in the step's batch alone.
        """
        inputs = batch.inputs.copy()
        for number, row in enumerate(inputs):
            random = np.random.default_rng((self.seed, step, share + number * shares, 1))
            if random.random() < self.rate and len(places := self.places(row)):
                row[random.choice(places)] = self.stop_id
        return replace(batch, inputs=inputs)
