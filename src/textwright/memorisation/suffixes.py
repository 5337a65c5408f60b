"""A suffix array over the training text: the longest match of any other text, and where it stands.

The documents are joined as UTF-8, a byte that no UTF-8 holds after each, so a match never crosses
from one document into the next. Suffixes are sorted by `pydivsufsort` (Mori's divsufsort). Matching
statistics (Chang & Lawler 1994) are found by binary search for all places of a text at once, which
carries along how far each place agrees with both ends of its interval (Manber & Myers 1993).

Memory: 1 byte of text and 4 bytes of suffix array for each byte (8 beyond 2 GB).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from textwright.errors import EvaluationError

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

_END, _END_OF_SEARCHED = 0xFF, 0xFE  # neither occurs in UTF-8; unequal, so both end a match
_WORD = 8  # bytes that are compared at once
_PLACES = 1 << 18  # of a text, that are searched at once: about 30 MB


class Source(NamedTuple):
    """A place of the training text: number of the document, and its character, both from 0."""

    document: int
    offset: int


@dataclass(frozen=True)
class Matches:
    """The longest match of every character of a text with the training text.

    characters (N,): how many characters from each one on stand in the training text in a row ·
    places (N,): the byte of the training text where such a match begins.
    """

    characters: Integers
    places: Integers

    @property
    def longest(self) -> int:
        return int(self.characters.max(initial=0))

    def known(self, length: int) -> NDArray[np.bool_]:
        """Whether each sequence of `length` characters occurs in training, (N − length + 1,)."""
        return self.characters[: max(0, len(self.characters) - length + 1)] >= length


class SuffixArray:
    """The training documents, searchable. Raises EvaluationError where pydivsufsort is missing."""

    def __init__(self, texts: Sequence[str]) -> None:
        try:
            from pydivsufsort import divsufsort
        except ImportError:
            raise EvaluationError(
                "Suffix arrays need pydivsufsort; install it with: pip install 'textwright[report]'"
            ) from None
        parts = [_encoded(text) for text in texts]
        self.starts = np.cumsum([0, *(len(part) + 1 for part in parts)])  # (documents + 1,)
        joined = _joined(parts, _END)
        self.text: Bytes = joined[:-_WORD]
        self._words = _words(joined)
        self._order: NDArray[np.integer] = divsufsort(self.text)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the text and its suffix array take."""
        return self.text.nbytes + self._order.nbytes

    def matches(self, texts: Sequence[str]) -> list[Matches]:
        """The longest matches from every character of each text on."""
        parts = [_encoded(text) for text in texts]
        searched = _joined(parts, _END_OF_SEARCHED)
        begins = (searched & 0xC0) != 0x80  # a character, or an end, begins at this byte
        before = np.cumsum(begins)  # characters that begin up to each byte
        words = _words(searched)
        found = []
        start = 0
        for part in parts:
            places: Integers = start + np.flatnonzero(begins[start : start + len(part)])
            lengths, at = self._search(words, places)
            # A match in bytes may end inside a character, which then does not count.
            found.append(Matches(before[places + lengths] - before[places], at))
            start += len(part) + 1
        return found

    def count(self, span: str) -> int:
        """How often a span occurs in the training text."""
        return self._range(span)[0]

    def find(self, span: str, most: int) -> list[Source]:
        """The first `most` occurrences of a span, in the order of the training text."""
        count, first = self._range(span)
        places = np.sort(self._order[first : first + count])[:most]
        return [self.source(place) for place in places.tolist()]

    def source(self, place: int) -> Source:
        """The document and character of a byte of the training text."""
        document = int(np.searchsorted(self.starts, place, side="right")) - 1
        before = self.text[self.starts[document] : place]
        return Source(document, int(np.count_nonzero((before & 0xC0) != 0x80)))

    def _range(self, span: str) -> tuple[int, int]:
        """How many suffixes begin with a span, and the first of them in the order."""
        from pydivsufsort import sa_search

        sought = np.frombuffer(bytearray(_encoded(span)), np.uint8)
        count, first = sa_search(self.text, self._order, sought)
        return int(count), int(first or 0)

    def _search(self, words: NDArray[np.uint64], places: Integers) -> tuple[Integers, Integers]:
        """Longest matches of the bytes from each place on: their lengths in bytes, and where."""
        lengths, found = np.zeros_like(places), np.zeros_like(places)
        for first in range(0, len(places), _PLACES):
            part = slice(first, first + _PLACES)
            lengths[part], found[part] = self._search_some(words, places[part])
        return lengths, found

    def _search_some(
        self, words: NDArray[np.uint64], places: Integers
    ) -> tuple[Integers, Integers]:
        # The text from each place on lies between the suffixes of ranks low and high, with which it
        # has low_same and high_same bytes in common.
        count = len(places)
        low, high = np.full(count, -1), np.full(count, len(self._order))
        low_same, high_same = np.zeros(count, np.int64), np.zeros(count, np.int64)
        going = np.arange(count)
        while len(going):
            middle = (low[going] + high[going]) // 2
            suffixes = self._order[middle].astype(np.int64)
            same = np.minimum(low_same[going], high_same[going])
            above = self._compare(words, places[going], suffixes, same)
            up, down = going[above], going[~above]
            low[up], low_same[up] = middle[above], same[above]
            high[down], high_same[down] = middle[~above], same[~above]
            going = going[high[going] - low[going] > 1]
        better = low_same >= high_same
        rank = np.clip(np.where(better, low, high), 0, len(self._order) - 1)
        return np.where(better, low_same, high_same), self._order[rank].astype(np.int64)

    def _compare(
        self, words: NDArray[np.uint64], places: Integers, suffixes: Integers, same: Integers
    ) -> NDArray[np.bool_]:
        """Whether the text from each place on is greater than a suffix; `same`, in which they are
        known to agree, becomes the bytes in which they do."""
        above = np.zeros(len(places), bool)
        tied = np.arange(len(places))
        while len(tied):
            a = words[places[tied] + same[tied]].astype(np.uint64)
            b = self._words[suffixes[tied] + same[tied]].astype(np.uint64)
            above[tied] = a > b
            differ = a ^ b
            same[tied] += _WORD - np.searchsorted(_POWERS, differ, side="right")
            tied = tied[differ == 0]
        return above


_POWERS = 256 ** np.arange(_WORD, dtype=np.uint64)  # a number below 256^k has k bytes


def _joined(parts: Sequence[bytes], end: int) -> Bytes:
    """The parts with the byte `end` after each. Words may be read from each of these bytes, so more
    follow. Writable, as pydivsufsort asks."""
    ends = bytes([end])
    return np.frombuffer(bytearray().join([ends.join(parts), ends * (1 + _WORD)]), np.uint8)


def _words(data: Bytes) -> NDArray[np.uint64]:
    """The eight bytes from each byte on as one big-endian number; a view, without a copy."""
    return np.ndarray((len(data) - _WORD + 1,), ">u8", buffer=data, strides=(1,))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
