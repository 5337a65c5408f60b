"""Held-out scores: loss, perplexity, bits per character and per byte, with intervals.

A document is scored whole: every token, the stop included, costs −log₂ p, and what a lossy
tokenizer threw away costs its escape code. Bits per character are therefore comparable between
tokenizers; losses and perplexities are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from textwright.corpus import FEW_DOCUMENTS
from textwright.escape import EscapeCode
from textwright.evaluation.kept import Array
from textwright.tokenizer import Tokenizer
from textwright.wording import counted

BLOCK_CHARACTERS = 1_000  # size of the blocks that are resampled if documents are few
RESAMPLES = 1_000
FEW_UNITS = 10  # an interval over fewer says little


@dataclass(frozen=True)
class Scores:
    """loss: nats per target over whole documents · row_loss: over the targets of training rows ·
    padded_loss: the same sum divided by all cells of rows padded to the context, as sources that
    count padding print it; both None if the model was not trained on rows of one document each ·
    interval: 95 % of resampled bits per character · units: documents or parts of the text that were
    resampled; 0: not known."""

    loss: float
    perplexity: float
    bits_per_character: float
    bits_per_byte: float
    documents: int
    tokens: int
    interval: tuple[float, float]
    row_loss: float | None = None
    padded_loss: float | None = None
    units: int = 0

    def to_json(self) -> dict[str, object]:
        """The scores that `textwright evaluate --json` prints."""
        values = asdict(self)
        return {**values, "interval": {"bits_per_character": list(self.interval)}}


@dataclass(frozen=True)
class HeldOut:
    """Encoded documents, with the characters and bytes of each and the bits for what the tokenizer
    threw away."""

    rows: list[Array]  # stop, ids, stop
    characters: Array
    bytes: Array
    escape_bits: Array
    places: list[Array] | None  # each target's first character; None if documents are many

    @classmethod
    def of(cls, texts: Iterable[str], tokenizer: Tokenizer, escape: EscapeCode) -> HeldOut:
        """Encode and measure documents."""
        texts = list(texts)
        kind = np.min_scalar_type(tokenizer.vocab_size - 1)
        stop = np.array([tokenizer.stop_id], dtype=kind)
        rows = [
            np.concatenate([stop, ids.astype(kind), stop]) for ids in tokenizer.encode_batch(texts)
        ]
        places = None
        if len(texts) < FEW_DOCUMENTS:
            places = [np.append(tokenizer.starts(text), len(text)) for text in texts]
        return cls.sized(texts, places, rows, [escape.bits(text) for text in texts])

    @classmethod
    def sized(
        cls,
        texts: Sequence[str],
        places: list[np.ndarray] | None,
        rows: Sequence[np.ndarray] = (),
        escape_bits: Sequence[float] | None = None,
    ) -> HeldOut:
        """Measure documents that were encoded elsewhere; without `escape_bits` nothing was lost."""
        return cls(
            list(rows),
            np.array([len(text) for text in texts]),
            np.array([len(text.encode("utf-8", "surrogatepass")) for text in texts]),
            np.array(escape_bits or [0.0] * len(texts)),
            places if len(texts) < FEW_DOCUMENTS else None,
        )

    @property
    def targets(self) -> int:
        return sum(len(row) - 1 for row in self.rows)


Scorer = Callable[[list[np.ndarray]], list[np.ndarray]]
"""Rows (stop, ids, stop) → nats of every target (row[1:]) of each."""


def evaluate(
    scorer: Scorer,
    held_out: HeldOut,
    *,
    row_length: int | None = None,
) -> Scores:
    """Score whole documents; row_length: targets of a training row, for row and padded loss."""
    nats = scorer(held_out.rows)
    per_document = np.array([document.sum() for document in nats])
    bits = per_document / math.log(2) + held_out.escape_bits
    row_loss = padded_loss = None
    units = units_of(nats, held_out)
    if row_length is not None:
        row_nats = float(sum(document[:row_length].sum() for document in nats))
        row_loss = row_nats / sum(min(len(document), row_length) for document in nats)
        padded_loss = row_nats / (len(nats) * row_length)
    loss = float(per_document.sum() / held_out.targets)
    return Scores(
        loss=loss,
        perplexity=math.exp(min(loss, 700.0)),
        bits_per_character=float(bits.sum() / held_out.characters.sum()),
        bits_per_byte=float(bits.sum() / held_out.bytes.sum()),
        documents=len(nats),
        tokens=held_out.targets,
        interval=redrawn_interval(*units),
        row_loss=row_loss,
        padded_loss=padded_loss,
        units=len(units[0]),
    )


def units_of(nats: Sequence[np.ndarray], held_out: HeldOut) -> tuple[np.ndarray, np.ndarray]:
    """Bits and characters (U,) of each unit that is resampled: documents or, where they are few,
    blocks of text. The units are the same whatever the tokenizer."""
    if held_out.places is not None:
        return _blocks(nats, held_out)
    bits = np.array([document.sum() for document in nats]) / math.log(2) + held_out.escape_bits
    return bits, held_out.characters.astype(np.float64)


def caution(units: int) -> str:
    """What makes intervals over so many units doubtful, in a sentence; empty: nothing."""
    if not 0 < units < FEW_UNITS:
        return ""
    return (
        f"The held-out text is short: its interval rests on {counted(units, 'part')} of it, which "
        "is too few to trust it."
    )


def redrawn_interval(amounts: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of sum(amounts) / sum(sizes) over resampled units (U,), the same at each
    call."""
    return middle_of(redrawn_ratios(amounts, sizes, np.random.default_rng(0)))


def redrawn_ratios(
    amounts: np.ndarray, sizes: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """sum(amounts) / sum(sizes) of units (U,) that are drawn again with repeats, (RESAMPLES,)."""
    redrawn = np.empty(RESAMPLES)
    for at in range(RESAMPLES):  # one at a time, so that memory does not grow with their number
        drawn = random.integers(len(amounts), size=len(amounts))
        size = max(1.0, sizes[drawn].sum())  # all drawn documents may be empty
        redrawn[at] = amounts[drawn].sum() / size
    return redrawn


def middle_of(redrawn: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of resampled values."""
    low, high = np.percentile(redrawn, [2.5, 97.5])
    return float(low), float(high)


def _blocks(nats: Sequence[np.ndarray], held_out: HeldOut) -> tuple[np.ndarray, np.ndarray]:
    """Bits and characters of each block of text; the escape code's bits are spread evenly."""
    assert held_out.places is not None
    all_bits, all_characters = [], []
    for document, places, length, escape in zip(
        nats, held_out.places, held_out.characters, held_out.escape_bits, strict=True
    ):
        # What is left for less than half a block belongs to the last.
        count = max(1, int(length / BLOCK_CHARACTERS + 0.5))
        block = np.minimum(places // BLOCK_CHARACTERS, count - 1)
        characters = np.full(count, float(BLOCK_CHARACTERS))
        characters[-1] = length - BLOCK_CHARACTERS * (count - 1)
        spread = escape * (characters / length if length else 1.0)
        all_bits.append(np.bincount(block, document / math.log(2), count) + spread)
        all_characters.append(characters)
    return np.concatenate(all_bits), np.concatenate(all_characters)
