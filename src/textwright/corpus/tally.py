"""Counts of one pass over a corpus, in a byte a record and 8 bytes a document."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from textwright.corpus.split import FEW_DOCUMENTS

DROPPED = 255
SEVERAL = 20  # documents: a model learns how so many texts of one kind begin and end
SHORT = 100  # characters of a held-out part that hardly says anything of a model

Hashes = np.ndarray  # (n,) uint64, sorted


@dataclass(frozen=True)
class Summary:
    """Counts of one pass over the corpus, after cleaning.

    `parts` counts the documents of each part; one that is split by position counts in every
    part that has some of it. `repeated` counts the documents of given validation and test files
    that are training documents too: those files are taken as they are. `train_hashes` is (n,)
    uint64, the sorted values of `hash_document`.
    """

    documents: int
    characters: int
    words: int
    duplicates: int
    dropped: dict[str, int]
    parts: dict[str, int]
    repeated: dict[str, int]
    files: list[dict[str, Any]]
    fingerprint: str
    template: str
    options: dict[str, Any]
    split: dict[str, Any]
    train_hashes: Hashes

    @property
    def ends_held_out(self) -> bool:
        """Whether there are several documents whose ends do not train."""
        cut_short = self.split["by"] == "position" and self.split["ends"]["train"] < 1
        return cut_short and self.parts["train"] >= SEVERAL

    @property
    def notes(self) -> list[str]:
        """What makes the held-out parts hard to judge by, in sentences."""
        repeated = [
            f"Of the documents given with --{part}, {count:,} of {self.parts[part]:,} are trained "
            "on too; their score does not show how well other text is predicted."
            for part, count in self.repeated.items()
            if count
        ]
        return [*repeated, *filter(None, [self._short_ends])]

    @property
    def _short_ends(self) -> str:
        ends = self.split["ends"]
        share = ends.get("valid", 1.0) - ends["train"]
        held = round(share * self.characters / max(1, self.documents))
        if not self.ends_held_out or "valid" not in ends or held >= SHORT:
            return ""
        return (
            f"Held out: the ends of {self.documents} documents, {held} characters on average, "
            "which say little of how well a model writes. Put the texts into one file, or name "
            "some of them with --valid and --test."
        )

    def to_json(self) -> dict[str, Any]:
        """Everything but the hashes, for `corpus.json`."""
        return {name: value for name, value in vars(self).items() if name != "train_hashes"}


def hash_document(text: str) -> int:
    """64 bits of BLAKE2b over a document's UTF-8, by which documents are compared."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


class Measure:
    """Characters, words and hash of one document, added stretch by stretch."""

    def __init__(self) -> None:
        self.characters = self.words = 0
        self._state = blake2b(digest_size=8)

    def add(self, text: str) -> None:
        self.characters += len(text)
        self.words += len(text.split())
        self._state.update(text.encode())

    @property
    def hash(self) -> int:
        return int.from_bytes(self._state.digest(), "little")


class Tally:
    """Counts of the documents of some files.

    `codes` has, for each record, the index of its part in PARTS, or DROPPED. `sizes` are the
    characters and words of held-out documents, which may still be taken back, and `lengths`
    the characters of each document while there are few.
    """

    def __init__(self) -> None:
        self.codes = bytearray()
        self.documents = self.characters = self.words = 0
        self.trained, self.held = array("Q"), array("Q")
        self.sizes = array("Q"), array("Q")
        self.lengths: list[int] = []

    def drop(self) -> None:
        """Count a record that gave no document."""
        self.codes.append(DROPPED)

    def keep(self, index: int, document: Measure) -> None:
        """Count a document of the part with this index."""
        self.codes.append(index)
        self.documents += 1
        if self.documents < FEW_DOCUMENTS:
            self.lengths.append(document.characters)
        self.characters += document.characters
        self.words += document.words
        if index == 0:
            self.trained.append(document.hash)
        else:
            self.held.append(document.hash)
            self.sizes[0].append(document.characters)
            self.sizes[1].append(document.words)

    def count_among(self, train_hashes: Hashes) -> int:
        """Number of held-out documents that are training documents too."""
        return int(_among(self.held, train_hashes).sum())

    def take_back(self, train_hashes: Hashes) -> int:
        """Drop the held-out documents that are training documents too, and return their number."""
        leaked = _among(self.held, train_hashes)
        codes = np.frombuffer(self.codes, np.uint8).copy()
        codes[np.flatnonzero((codes != 0) & (codes != DROPPED))[leaked]] = DROPPED
        self.codes = bytearray(codes.tobytes())
        characters, words = (np.array(size, np.uint64)[leaked].sum() for size in self.sizes)
        self.characters -= int(characters)
        self.words -= int(words)
        self.held = array("Q", np.array(self.held, np.uint64)[~leaked].tobytes())
        self.documents -= int(leaked.sum())
        return int(leaked.sum())


def _among(hashes: Iterable[int], known: Hashes) -> np.ndarray:
    found = np.array(hashes, np.uint64)
    if not len(known):
        return np.zeros(len(found), bool)
    return known[np.minimum(np.searchsorted(known, found), len(known) - 1)] == found


def count_distinct(tallies: Iterable[Tally]) -> int:
    """Number of different documents in all files together."""
    hashes = [
        np.array(each, np.uint64) for tally in tallies for each in (tally.trained, tally.held)
    ]
    return len(np.unique(np.concatenate(hashes)))
