"""How a tokenizer divides a document: its tokens, how each is written, and the text between."""

import re
from collections.abc import Sequence
from functools import lru_cache

from textwright.tokenizer import Tokenizer
from textwright.tokenizer.treatment import PIECES

CASES = LOWER, CAPITALIZED, UPPER, MIXED, RESPELLED = range(5)


def forms(token: str) -> list[str]:
    """The token in the cases LOWER (as it is), CAPITALIZED and UPPER."""
    first = next((i for i, letter in enumerate(token) if letter.upper() != letter), 0)
    capitalized = token[:first] + token[first : first + 1].upper() + token[first + 1 :]
    return [token, capitalized, token.upper()]


def has_capital(letter: str) -> bool:
    """True if the letter has a capital that is one letter too (ß has none)."""
    return letter.upper() != letter and len(letter.upper()) == 1


def case_of(token: str, surface: str) -> int:
    """The first of CASES that turns the token into the surface, as the document writes it."""
    if surface in (written := forms(token)):
        return written.index(surface)
    if len(surface) == len(token) and all(
        s == t or (has_capital(t) and s == t.upper()) for s, t in zip(surface, token, strict=True)
    ):
        return MIXED
    return RESPELLED


def shape(token: str) -> str:
    """The token itself if it is an ASCII mark, else word, number or other."""
    if len(token) == 1 and token.isascii() and not token.isalnum():
        return token
    if any(letter.isdigit() for letter in token[:2]):
        return "number"
    return "word" if any(letter.isalpha() for letter in token[:2]) else "other"


class Division:
    """Divides documents as one tokenizer does.

    texts, shapes: one for each id · tiles: tokens include white space, and nothing ever stands
    between them · loses_case: tokens are lower-cased.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.unknown_id = tokenizer.unknown_id
        self.edge = tokenizer.stop_id
        self.tiles = tokenizer.kind in ("bpe", "char")
        kind, self.loses_case, punctuation, _ = tokenizer.treatment
        # Lower-casing moves no border between pieces, so they can be found in the text as it is.
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
        """(ids (T,), how the document writes each, the T + 1 strings around them).

        Put together again, they make the document. A character that tokens share (a letter that
        lower-cases to two, bytes of one) belongs to the last of them.
        """
        if self._piece:
            # Offsets from the tokenizer would take three times as long, and give the same.
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
        """The mark before each token (see `_mark`). Tokens that tile need no gaps."""
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
        """The shape of the text before a token, after a blank if white space lies between."""
        bare = gap.rstrip()
        blank = " " if len(bare) < len(gap) else ""
        return blank + (shape(bare[-1]) if bare else self.shapes[left])
