"""The proof that a score is the price of the whole text: a decoder that restores it.

An arithmetic coder writes a document with the model's own probabilities, one token after another,
the end included, and what the tokens lose after that; a decoder that has the model and these bits,
and nothing else, must give the document back byte for byte. The bits may be at most 2 a document
(`ALLOWED`) more than was charged: rounding, and the end of the code. Fewer prove the charge too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from textwright.comparison.subjects import Codec, Subject
from textwright.errors import EvaluationError
from textwright.escape.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from textwright.evaluation.held_out import evenly_spaced
from textwright.progress import OnProgress, silent
from textwright.writing.backend import moves, window_start
from textwright.writing.sampling_steps import log_probabilities

DOCUMENTS = 8
CHARACTERS = 1_000  # of each document: it may be a novel
ALLOWED = 2.0  # bits a document that a code may be longer than the charge
_ROUNDING = 0.01  # bits of a document that float32 sums may add, in another order
# Of the frequencies, which are rounded up. The sum grows by one for each token of the vocabulary,
# which costs less than 1e-6 bits a token; a token less likely than 1 in _SCALE costs fewer bits
# than it is charged.
_SCALE = 2.0**40


@dataclass(frozen=True)
class Proof:
    """What was restored. bits: of the code · charged: by the score of the same text · largest: the
    most bits that the code of one document takes beyond its charge; 0 if none takes more."""

    documents: int
    characters: int
    bytes: int
    bits: int
    charged: float
    largest: float

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def sample_for_proof(documents: Sequence[str]) -> list[str]:
    """The beginnings of a few documents, evenly spaced."""
    return [document[:CHARACTERS] for document in evenly_spaced(documents, DOCUMENTS)]


def prove(
    subject: Subject,
    codec: Codec,
    documents: Sequence[str],
    on_progress: OnProgress = silent,
) -> Proof:
    """Restore documents from the subject's own probabilities, which its codec gives.

    Raises EvaluationError if a document is not restored, or if its code is longer than the charge
    says: the score is then not to be trusted.
    """
    lengths, charges = [], []
    for done, document in enumerate(documents):
        on_progress(done, len(documents))
        # Alone, so that what is charged belongs to this document whatever is resampled.
        charges.append(subject.measure([document], silent).bits)
        digits = encode(codec, document)
        lengths.append(len(digits))
        restored = decode(codec, digits, len(document) + 1)
        if restored != document:
            raise EvaluationError(
                f"{subject.name} does not restore {document[:40]!r}… from its own probabilities; "
                "its score is not to be trusted. Please report this."
            )
    beyond = np.array(lengths) - np.array(charges)
    if beyond.max(initial=0.0) > ALLOWED + _ROUNDING:
        raise EvaluationError(
            f"{subject.name} needs {beyond.max():.1f} bits more than it is charged for "
            f"{documents[int(beyond.argmax())][:40]!r}…, where {ALLOWED:.0f} are allowed; its "
            "score is not to be trusted. Please report this."
        )
    return Proof(
        len(documents),
        sum(map(len, documents)),
        sum(len(document.encode("utf-8", "surrogatepass")) for document in documents),
        sum(lengths),
        float(sum(charges)),
        float(beyond.max(initial=0.0)),
    )


def encode(codec: Codec, document: str) -> str:
    """The code of a document, as "0"s and "1"s."""
    rest = _Kept([])
    ids = codec.encode(document, rest)
    encoder, reading = ArithmeticEncoder(), _Reading(codec)
    for target in [*ids, codec.stop]:
        ends = reading.ends()
        low = int(ends[target - 1]) if target else 0
        encoder.write(low, int(ends[target]) - low, int(ends[-1]))
        reading.read(target)
    for choice in rest.choices:
        encoder.write(*choice)
    return encoder.finish()


def decode(codec: Codec, digits: str, most: int) -> str:
    """The document of a code. most: tokens after which a code that does not end is given up."""
    decoder, reading = ArithmeticDecoder(digits), _Reading(codec)
    ids: list[int] = []
    while len(ids) <= 4 * most:  # a character may be several tokens, of a byte each
        ends = reading.ends()
        found = int(np.searchsorted(ends, decoder.target(int(ends[-1])), side="right"))
        low = int(ends[found - 1]) if found else 0
        decoder.take(low, int(ends[found]) - low, int(ends[-1]))
        if found == codec.stop:
            return codec.decode(ids, decoder)
        ids.append(found)
        reading.read(found)
    return ""


@dataclass(frozen=True)
class _Kept:
    """A writer that keeps choices for later."""

    choices: list[tuple[int, int, int]]

    def write(self, low: int, frequency: int, total: int) -> None:
        self.choices.append((low, frequency, total))


class _Reading:
    """A model that reads a document token by token: alike for encoder and decoder, so that both
    have the same probabilities to the last bit."""

    def __init__(self, codec: Codec) -> None:
        self._backend = codec.backend
        self._ids = [codec.start]
        self._logits, self._state = self._again()

    def ends(self) -> np.ndarray:
        """Where the share of each token ends, (V,) whole numbers; no share is empty."""
        p = np.exp(log_probabilities(self._logits[0]))
        return np.cumsum((p * _SCALE).astype(np.int64) + 1)

    def read(self, token: int) -> None:
        """Read one more token; a full context keeps its newest half."""
        self._ids.append(token)
        if moves(len(self._ids), self._backend.context_length):
            self._logits, self._state = self._again()
        else:
            self._logits, self._state = self._backend.step(np.array([token]), self._state)

    def _again(self) -> tuple[np.ndarray, Any]:
        start = window_start(len(self._ids), self._backend.context_length)
        seen = np.array([self._ids[start:]], np.int64)
        return self._backend.prefill(seen, np.array([seen.shape[1]]))
