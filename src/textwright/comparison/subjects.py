"""What can be scored: a run, another project's model folder, a server. One protocol for all three.

`run_subject.py`, `model_folder.py` and `completions.py` have one kind each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from textwright.errors import EvaluationError
from textwright.escape import EscapeCode
from textwright.escape.arithmetic import ArithmeticDecoder, SymbolWriter
from textwright.evaluation.kept import Array, KeptResults
from textwright.evaluation.scores import HeldOut, units_of
from textwright.progress import OnProgress
from textwright.writing.backend import Backend
from textwright.writing.sampling_options import SamplingOptions, sampling_options

UNKNOWN = "what it was trained on is not known here, so it may have read this text"


@dataclass(frozen=True)
class Measured:
    """What a model pays for documents. nats: of each token of each, the end included · text: their
    sizes, with the bits for what the tokens do not say."""

    nats: list[Array]
    text: HeldOut

    def units(self) -> tuple[np.ndarray, np.ndarray]:
        """Bits and characters of each document or, of few, of each block (see `units_of`)."""
        return units_of(self.nats, self.text)

    @property
    def bits(self) -> float:
        return float(self.units()[0].sum())

    @property
    def tokens(self) -> int:
        """Number of predictions."""
        return sum(map(len, self.nats))


@dataclass(frozen=True)
class Writing:
    """How all models write: by the same rule, texts of the same length. characters: of each text,
    at most, the prompt not counted · texts: beginnings of held-out documents to go on from. Raises
    GenerationError where a temperature or a top-p cannot be."""

    temperature: float = 1.0
    top_p: float = 1.0
    characters: int = 300
    seed: int = 0
    texts: int = 32

    def __post_init__(self) -> None:
        self.options(1)  # refused here, not after the first model is scored

    def options(self, max_new_tokens: int) -> SamplingOptions:
        """The rule as a run takes it."""
        return sampling_options(
            temperature=self.temperature, top_p=self.top_p, max_new_tokens=max_new_tokens
        )

    def seeds(self, count: int) -> list[int]:
        """A seed for each prompt: with one for all, texts after different prompts would be alike,
        which diversity would take for a fault of the model."""
        return list(range(self.seed, self.seed + count))

    def tokens(self, measured: Measured) -> int:
        """New tokens that suffice for so many characters, of a model that read the held-out text in
        so many; a text may have shorter words than that one, so half as many more."""
        read = measured.tokens / max(1, int(measured.text.characters.sum()))
        return max(1, round(1.5 * self.characters * read))


@dataclass(frozen=True)
class Written:
    """A text for each prompt, and what writing them took. tokens: None where it is not known."""

    texts: list[str]
    seconds: float
    tokens: int | None

    @property
    def tokens_per_second(self) -> float | None:
        return self.tokens / self.seconds if self.tokens and self.seconds else None

    @property
    def characters_per_second(self) -> float | None:
        characters = sum(map(len, self.texts))
        return characters / self.seconds if characters and self.seconds else None


@dataclass(frozen=True)
class Codec:
    """A subject's whole distribution, for a coder that must restore a document.

    encode: a document → its ids; it writes what they lose · decode: ids and a reader of that → the
    document · start, stop: the ids before and after every document.
    """

    backend: Backend
    start: int
    stop: int
    encode: Callable[[str, SymbolWriter], Sequence[int]]
    decode: Callable[[Sequence[int], ArithmeticDecoder], str]


class Subject(Protocol):
    """Something that gives text probabilities and writes."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...  # run, folder or server
    @property
    def kept(self) -> KeptResults:
        """Finished parts that depend on this subject."""

    def measure(self, documents: Sequence[str], on_progress: OnProgress) -> Measured:
        """What it pays for each document, read alone. Raises EvaluationError where the tokens do
        not give a document back: its score would not be of that text."""

    def write(self, prompts: Sequence[str], writing: Writing, max_new_tokens: int) -> Written:
        """One text for each prompt, cut to `writing.characters`."""

    def codec(self) -> Codec | None:
        """Its distribution; None where it does not give it away."""

    def context(self) -> str:
        """How far back it looks, in words."""

    def remarks(self) -> list[str]:
        """What a reader of its score must know: what cannot be known, and what is charged in
        another way."""

    def parameters(self) -> int | None:
        """Their number; None if it is not known or there are none."""

    def bytes(self) -> int | None:
        """Bytes on the disk of what it needs to write; None if that is not known."""


def context_in_words(context_length: int | None) -> str:
    """The context rule of `window_start`, in words."""
    if context_length is None:
        return "each token sees the whole document before it"
    return (
        f"each token sees at least {max(1, context_length // 2):,} and at most {context_length:,} "
        "tokens before it, or all there are: a full context keeps its newest half"
    )


def restored_by_code(escape: EscapeCode, document: str, ids: list[int]) -> str:
    """The document by the ids that are scored and what the escape code charges for."""
    if escape.tokenizer.lossless:
        return escape.tokenizer.decode(ids)
    divided, surfaces, gaps = escape.division.parse(document)
    if list(divided) != ids:  # then what is charged twice, or never, cannot be told
        return ""
    pieces = [piece for pair in zip(gaps, surfaces, strict=False) for piece in pair]
    return "".join(pieces) + gaps[-1]


def check_restored(name: str, document: str, restored: str) -> int:
    """Bytes of the document. Raises EvaluationError if the tokens restore another one."""
    if document != restored:
        place = next(
            (at for at, (a, b) in enumerate(zip(document, restored, strict=False)) if a != b),
            min(len(document), len(restored)),
        )
        raise EvaluationError(
            f"{name} does not give the text back: from {document[place : place + 20]!r} its tokens "
            f"make {restored[place : place + 20]!r}, so its score would be of another text; "
            "name models whose tokens keep all of it, or textwright runs and their exports, which "
            "pay for the rest."
        )
    return len(document.encode("utf-8", "surrogatepass"))
