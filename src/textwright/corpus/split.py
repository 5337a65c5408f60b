"""Divides documents, or the characters of few, into training, validation and test parts.

Documents are split by a salted hash of their raw fields, so equal ones share a part and new ones
move none of the old. Fewer than FEW_DOCUMENTS are split by position within each, in the
same shares.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = ("train", "valid", "test")

FEW_DOCUMENTS = 200  # fewer are split by position, and resampled by stretches of text
_SPACE = re.compile(r"\s+")
_HELD_OUT = 0.05  # share of each held-out part


@dataclass(frozen=True)
class Piece:
    """A document, or a stretch of about a million characters of a long one.

    last: whether the document ends with it.
    """

    text: str
    last: bool = True


class Split:
    """Splits documents into the parts that are not `given` as files of their own.

    whole_symbols: by position, cut after the next white space, never inside a symbol.
    """

    def __init__(self, salt: str, given: Collection[str] = (), whole_symbols: bool = False):
        self._whole_symbols = whole_symbols
        parts = [part for part in PARTS if part not in given]
        # Rounded: 1 − 2·0.05 must be the 0.90 of the definition, not its neighbor.
        self.ends = {
            part: round(1 - _HELD_OUT * (len(parts) - 1 - at), 2) for at, part in enumerate(parts)
        }
        self._steps = [(end, PARTS.index(part)) for part, end in self.ends.items()]
        self._salted = blake2b(salt.encode() + b"\0", digest_size=8)

    def index_of(self, fields: Iterable[Iterable[str]]) -> int:
        """The index in PARTS of a document with these raw fields, each in one or more stretches."""
        state = self._salted.copy()
        for stretches in fields:
            for stretch in stretches:
                state.update(stretch.encode("utf-8", "surrogatepass"))
            state.update(b"\0")
        place = int.from_bytes(state.digest(), "big") / 2**64
        return next(index for end, index in self._steps if place < end or end == 1)

    def bounds(self, length: int) -> Iterator[tuple[Part, int, int]]:
        """By position: (part, start, stop) of each part in a document of `length` characters."""
        start = 0
        for part, end in self.ends.items():
            stop = int(end * length)
            yield part, start, stop
            start = stop

    def by_position(self, pieces: Iterable[Piece], length: int) -> Iterator[tuple[Part, Piece]]:
        """A document's pieces, cut where one part ends and the next begins."""
        bounds = list(self.bounds(length))
        at = 0
        for piece in pieces:
            if self._whole_symbols:
                bounds = list(_after_space(bounds, piece.text, at))
            for part, start, stop in bounds:
                low, high = max(start, at), min(stop, at + len(piece.text))
                if low < high:
                    text = piece.text[low - at : high - at]
                    yield part, Piece(text, last=high == stop)
            at += len(piece.text)


def _after_space(
    bounds: Iterable[tuple[Part, int, int]], text: str, at: int
) -> Iterator[tuple[Part, int, int]]:
    """The same bounds; one inside a symbol of the text, which begins at `at`, moves after it."""

    def moved(place: int) -> int:
        if not at < place < at + len(text) or text[place - at - 1].isspace():
            return place
        found = _SPACE.search(text, place - at)
        return at + (found.end() if found else len(text))

    for part, start, stop in bounds:
        yield part, moved(start), moved(stop)
