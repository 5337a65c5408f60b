"""How a tokenizer divides a document into what its tokens say and what they leave unsaid."""

import re
from collections.abc import Sequence
from functools import lru_cache

from textwright.tokenizer import Tokenizer
from textwright.tokenizer.treatment import PIECES

CASES = LOWER, CAPITALIZED, UPPER, MIXED, RESPELLED = range(5)


def forms(token: str) -> list[str]:
    """The token as LOWER (as it is), CAPITALIZED and UPPER write it."""
    first = next((i for i, letter in enumerate(token) if letter.upper() != letter), 0)
    capitalized = token[:first] + token[first : first + 1].upper() + token[first + 1 :]
    return [token, capitalized, token.upper()]


def has_capital(letter: str) -> bool:
    """Whether a capital stands for the letter, one for one (not for ß)."""
    return letter.upper() != letter and len(letter.upper()) == 1


def case_of(token: str, surface: str) -> int:
    """The first class that fits how the document writes the token."""
    if surface in (written := forms(token)):
        return written.index(surface)
    if len(surface) == len(token) and all(
        s == t or (has_capital(t) and s == t.upper()) for s, t in zip(surface, token, strict=True)
    ):
        return MIXED
    return RESPELLED


def shape(token: str) -> str:
    """An ASCII mark itself, or: word, number, other."""
    if len(token) == 1 and token.isascii() and not token.isalnum():
        return token
    if any(letter.isdigit() for letter in token[:2]):
        return "number"
    return "word" if any(letter.isalpha() for letter in token[:2]) else "other"


class Division:
    """One tokenizer's way to divide documents.

    texts, shapes: of each id · tiles: tokens stand side by side, white space included, and there
    is never anything between them · loses_case: tokens are lower-cased.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.unknown_id = tokenizer.unknown_id
        self.edge = tokenizer.stop_id
        self.tiles = tokenizer.kind in ("bpe", "char")
        kind, self.loses_case, punctuation = tokenizer.treatment
        # Letter case moves no border between pieces, so they can be found in the text as it is.
        self._piece = None if self.tiles else re.compile(f"({PIECES[kind, punctuation]})")
        ids = range(tokenizer.vocab_size)
        by_bytes = tokenizer.kind == "bpe"
        self.texts = [tokenizer.decode([i]) for i in ids] if by_bytes else tokenizer.tokens(ids)
        self.texts[self.edge] = ""
        self.shapes = [shape(text) for text in self.texts]
        self.shapes[self.edge] = "edge"
        if self.unknown_id is not None:
            self.shapes[self.unknown_id] = "unknown"
        self.mark = lru_cache(1 << 16)(self._mark)

    def parse(self, document: str) -> tuple[Sequence[int], list[str], list[str]]:
        """(ids (T,), what the document writes for each, the T + 1 strings around them).

        Put together again, they are the document. A character that tokens share (a letter that
        lower-cases to two, bytes of one) is the last one's.
        """
        if self._piece:
            # Offsets from the tokenizer would take three times as long, and say the same.
            parts = self._piece.split(document)
            return self.tokenizer.encode(document).tolist(), parts[1::2], parts[::2]
        spans = self.tokenizer.spans(document)
        if not spans:
            return [], [], [document]
        ids, starts, _ = zip(*spans, strict=True)
        ends = (*starts[1:], len(document))
        surfaces = [document[start:end] for start, end in zip(starts, ends, strict=True)]
        return ids, surfaces, [""] * (len(ids) + 1)

    def marks(self, ids: Sequence[int], gaps: Sequence[str]) -> list[str]:
        """What stands before each token: see `mark`. Tokens that tile need no gaps."""
        if not self.loses_case:
            return [""] * len(ids)
        if not self.tiles:
            return list(map(self.mark, gaps, (self.edge, *ids)))[: len(ids)]
        marks, left, blank = [], "edge", ""
        for i in ids:
            marks.append(blank + left)
            text = self.texts[i]
            if bare := text.rstrip():
                left = self.shapes[i] if len(bare) == 1 else shape(bare[-1])
                blank = ""
            blank = " " if len(bare) < len(text) else blank
        return marks

    def _mark(self, gap: str, left: int) -> str:
        """The shape of what is not white space, with a blank in front where white space is."""
        bare = gap.rstrip()
        blank = " " if len(bare) < len(gap) else ""
        return blank + (shape(bare[-1]) if bare else self.shapes[left])
