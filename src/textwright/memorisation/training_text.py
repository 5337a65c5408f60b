"""The text that a run was trained on, to compare other texts with.

Measured is which of their sequences are new, how long the spans are that stand in it word for word,
and where those come from. Texts are compared as the run's tokenizer reads them: one that drops
letter case or spacing can write no other text, and would seem to copy nothing from one that has
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from textwright.evaluation.diversity import word_spans
from textwright.memorisation.suffixes import Matches, Source, SuffixArray
from textwright.tokenizer import Tokenizer

WORDS = (3, 5, 8)  # lengths of the sequences of words whose share of new ones is measured
CHARACTERS = (15, 30, 50)  # and of characters
SHORTEST = 30  # characters of a span that is listed
SOURCES = 3  # that are listed of a span
HEADING = 60  # characters of the beginning of a document that name it

Unit = tuple[str, int]  # "words" or "characters", and the length of a sequence
UNITS: tuple[Unit, ...] = (
    *(("words", length) for length in WORDS),
    *(("characters", length) for length in CHARACTERS),
)


@dataclass(frozen=True)
class Place:
    """Where a span stands. document: its number among the training documents, from 1, in the order
    of the corpus · heading: how it begins · offset: characters before the span in it."""

    document: int
    heading: str
    offset: int


@dataclass(frozen=True)
class Span:
    """A stretch of a text that stands in the training text word for word. start: characters before
    it in the text · occurrences: how often it stands there · sources: the first of them."""

    text: str
    start: int
    occurrences: int
    sources: list[Place]

    @property
    def characters(self) -> int:
        return len(self.text)

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "characters": self.characters}


@dataclass(frozen=True)
class Novelty:
    """Of each of T texts: longest (T,), characters of the longest span that stands in the training
    text · new, all: for each unit, the number of its sequences that do not, and of all, (T,)."""

    longest: np.ndarray
    new: dict[Unit, np.ndarray]
    all: dict[Unit, np.ndarray]


class TrainingText:
    """The training documents of a run, searchable.

    documents: as the corpus has them. Raises EvaluationError where pydivsufsort is missing.
    """

    def __init__(self, documents: Sequence[str], tokenizer: Tokenizer) -> None:
        self._documents, self._tokenizer = documents, tokenizer
        self._texts = self.as_read(documents)
        self._places: dict[int, np.ndarray] = {}
        self.suffixes = SuffixArray(self._texts)

    def __len__(self) -> int:
        return len(self._documents)

    @property
    def characters(self) -> int:
        return sum(map(len, self._documents))

    def as_read(self, texts: Sequence[str]) -> list[str]:
        """Texts with all that the tokenizer throws away thrown away."""
        tokenizer = self._tokenizer
        if tokenizer.lossless or (tokenizer.kind == "char" and not tokenizer.treatment.lowercase):
            return list(texts)  # characters that are [UNK] match nothing as they are
        return [tokenizer.decode(ids.tolist()) for ids in tokenizer.encode_batch(texts)]

    def encoded(self) -> tuple[np.ndarray, np.ndarray]:
        """ids (N,) of all documents, and where each begins (documents + 1,)."""
        rows = self._tokenizer.encode_batch(self._documents)
        return np.concatenate(rows), np.cumsum([0, *map(len, rows)])

    def novelty(self, texts: Sequence[str]) -> Novelty:
        """How new texts are, which must be as the tokenizer reads them.

        A sequence of words is new if what stands from its first letter to its last does not occur
        in the training text, spaces included.
        """
        matches = self.suffixes.matches(texts)
        words = [np.array(word_spans(text), np.int64).reshape(-1, 2) for text in texts]
        new: dict[Unit, np.ndarray] = {}
        count: dict[Unit, np.ndarray] = {}
        for unit in UNITS:
            kind, length = unit
            if kind == "characters":
                known = [each.known(length) for each in matches]
            else:
                known = [_known_words(*both, length) for both in zip(matches, words, strict=True)]
            new[unit] = np.array([np.count_nonzero(~each) for each in known])
            count[unit] = np.array([len(each) for each in known])
        return Novelty(np.array([each.longest for each in matches]), new, count)

    def stretches(self, texts: Sequence[str], least: int = SHORTEST) -> list[list[tuple[int, int]]]:
        """(start, end) of the spans of each text, of at least so many characters, that stand in the
        training text and are part of no longer one. Texts are as the tokenizer reads them."""
        found = []
        for matches in self.suffixes.matches(texts):
            ends = np.arange(len(matches.characters)) + matches.characters
            # A span that begins later and ends at the same place is a part of the one before.
            whole = np.diff(ends, prepend=-1) > 0
            starts = np.flatnonzero(whole & (matches.characters >= least))
            found.append(list(zip(starts.tolist(), ends[starts].tolist(), strict=True)))
        return found

    def span(self, text: str, start: int, end: int) -> Span:
        """A stretch of a text with its sources."""
        copied = text[start:end]
        sources = [self.place(source) for source in self.suffixes.find(copied, SOURCES)]
        return Span(copied, start, self.suffixes.count(copied), sources)

    def place(self, source: Source) -> Place:
        document = self._documents[source.document]
        heading = document[: 2 * HEADING].strip().split("\n")[0][:HEADING]
        return Place(source.document + 1, heading, self._original(source))

    def _shown(self, number: int) -> np.ndarray:
        """Of each token of a document, (3, T): how much of the text as the tokenizer reads it
        stands there up to its end, and where it begins and ends in the document."""
        if number not in self._places:
            decoder = self._tokenizer.decoder()
            ids, starts, ends = zip(*self._tokenizer.spans(self._documents[number]), strict=True)
            lengths = [len(decoder.push(token_id)) for token_id in ids]
            self._places[number] = np.array([np.cumsum(lengths), starts, ends])
        return self._places[number]

    def _original(self, source: Source) -> int:
        """The character of the document, given that of its text as the tokenizer reads it."""
        document = self._documents[source.document]
        if self._texts[source.document] == document:
            return source.offset
        shown, starts, ends = self._shown(source.document)
        at = int(shown.searchsorted(source.offset, side="right"))
        if at == len(shown):
            return len(document)
        return int(max(starts[at], ends[at] - (shown[at] - source.offset)))


def _known_words(matches: Matches, spans: np.ndarray, length: int) -> np.ndarray:
    """Whether each sequence of so many words occurs. spans (words, 2): start and end of each."""
    ends = spans[length - 1 :, 1]
    starts = spans[: len(ends), 0]
    known: np.ndarray = matches.characters[starts] >= ends - starts
    return known
