"""How much of what a model writes stands in its training text, word for word.

Measured by the share of sequences of LENGTH tokens that occur nowhere in the training documents,
beside the same share of held-out text: a writer of the same kind of text who had not read them.
Counts copy more than a neural model, so a mixture is measured with them and without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from textwright.evaluation.predictors import MixedPredictor, NeuralPredictor, Predictor
from textwright.tokenizer import Tokenizer
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions
from textwright.writing.sequences import KnownSequences, hash_sequences

LENGTH = 8  # tokens, about five words
TEXTS, TOKENS = 64, 128  # written for the measurement, at temperature 1


@dataclass(frozen=True)
class Copying:
    """Shares of sequences of `length` tokens that are new: of what the run writes, of what its
    neural part writes alone (None if it has no other), and of held-out text."""

    length: int
    written: float
    neural: float | None
    held_out: float

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def measure_copying(
    predictor: Predictor,
    tokenizer: Tokenizer,
    ids: np.ndarray,
    starts: np.ndarray,
    held_out: Sequence[np.ndarray],
) -> Copying | None:
    """ids (N,), starts (documents + 1,): the training documents · held_out: rows of others. None
    where texts are shorter than a sequence, such as names."""
    known = KnownSequences.of(ids, starts, LENGTH)

    def written(by: Predictor) -> float | None:
        generator = Generator(by.backend(), tokenizer)
        options = SamplingOptions(temperature=1.0, max_new_tokens=TOKENS)
        samples = generator.generate("", options, num=TEXTS)
        return share_new([np.array(sample.ids, np.int64) for sample in samples], known)

    alone = None
    if isinstance(predictor, MixedPredictor):
        alone = written(NeuralPredictor(predictor.model))
    both, real = written(predictor), share_new([row[1:-1] for row in held_out], known)
    return None if both is None or real is None else Copying(LENGTH, both, alone, real)


def share_new(texts: Sequence[np.ndarray], known: KnownSequences) -> float | None:
    """The share of the sequences in some texts, given as ids, that are not known; None if the
    texts are shorter than a sequence."""
    starts = np.cumsum([0, *map(len, texts)])
    found = hash_sequences(np.concatenate(texts), starts, known.length)
    return float(np.mean(~known.contain(found))) if len(found) else None
