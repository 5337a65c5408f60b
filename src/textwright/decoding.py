"""From tokens back to text, one token at a time: the only place that knows how tokens are joined.

A decoder is pushed tokens in order and gives the text that each makes final. What it gives in
pieces is, put together, what it gives at once: `Tokenizer.decode` is the same decoder run over all
ids.

How words are joined
--------------------
Word tokens lost their spacing, so it is guessed from the tokens before (never from those after,
so that text can be shown as it is written):

==============================  =====================================================
token                           spacing
==============================  =====================================================
``, . ; : ! ? ) ] } %``         none before
``( [ { $ #``                   none after
``- / _ @ \\``                   none on either side, where a word or number stands before
``.`` ``:`` ``,`` and a number  none after, where a number stands before (``3.5``, ``10:30``;
                                after ``,`` only before three digits: ``1,000``)
``.`` after a single letter     none before a further single letter (``e.g.``)
``"``                           opens and closes in turn; after a number it is the inch sign
``'``                           none before, where a word stands before, and none between it and
                                the rest of a contraction (``don't``); else as ``"``
any other                       one space on either side
==============================  =====================================================
"""

import codecs
from typing import Protocol

from tokenizers import pre_tokenizers

_CLOSING = frozenset(",.;:!?)]}%")
_OPENING = frozenset("([{$#")
_BINDING = frozenset("-/_@\\")
_CONTRACTIONS = frozenset(("s", "t", "d", "m", "ll", "re", "ve"))


class Decoder(Protocol):
    """Gives the text of tokens pushed one by one; pieces and flush together are the whole text."""

    def push(self, token: str) -> str:
        """The text that this token makes final; it may be empty."""

    def flush(self) -> str:
        """What was held back, when no token follows."""


class PlainDecoder:
    """Joins tokens by one separator: none for characters, a space for symbols."""

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._begun = False

    def push(self, token: str) -> str:
        text = self._separator + token if self._begun else token
        self._begun = True
        return text

    def flush(self) -> str:
        return ""


class ByteDecoder:
    """Joins byte-level tokens and holds back the bytes of a character not yet whole.

    Bytes that are no UTF-8 become U+FFFD, as they do in `tokenizers`' own decoder.
    """

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: str) -> str:
        return self._utf8.decode(bytes(_BYTE_OF[letter] for letter in token))

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)


class WordDecoder:
    """Joins words and punctuation readably, by the table at the head of this module."""

    def __init__(self) -> None:
        self._last = ""
        self._before_last = ""
        self._binds = True  # no space after the last token; true at the start of the text
        self._open: set[str] = set()  # the quotation marks that have opened and not closed

    def push(self, token: str) -> str:
        before, after = self._spacing(token)
        text = " " + token if before and not self._binds else token
        self._binds = not after
        self._before_last, self._last = self._last, token
        return text

    def flush(self) -> str:
        return ""

    def _spacing(self, token: str) -> tuple[bool, bool]:
        """Whether a space belongs before this token, and whether one belongs after it."""
        after_word = _is_word(self._last)
        if token == "'" and after_word and token not in self._open:
            return False, True
        if token == '"' and self._last.isdigit() and token not in self._open:
            return False, True
        if token in ('"', "'"):
            opens = token not in self._open
            self._open ^= {token}
            return opens, not opens
        if token in _CLOSING:
            return False, True
        if token in _OPENING:
            return True, False
        if token in _BINDING and after_word:
            return False, False
        return not self._continues(token), True

    def _continues(self, token: str) -> bool:
        """Whether this word and what stands before it, with a mark between, are one expression."""
        mark, left = self._last, self._before_last
        if mark == "'":
            return _is_word(left) and token.lower() in _CONTRACTIONS
        if mark == "," and left.isdigit():
            return token.isdigit() and len(token) == 3
        if mark in (".", ":") and left.isdigit():
            return token.isdigit()
        return mark == "." and len(left) == len(token) == 1 and (left + token).isalpha()


def _is_word(token: str) -> bool:
    # A word may begin with any character but ASCII punctuation, which always stands alone.
    return token[:1].isalnum() or token[:1] > "\x7f"


def _byte_values() -> dict[str, int]:
    """Which byte each letter of a byte-level token stands for.

    GPT-2 shows printable bytes as themselves and the others, in order, from U+0100 on.
    """
    letters = set(pre_tokenizers.ByteLevel.alphabet())
    shown = {letter: ord(letter) for letter in letters if ord(letter) < 256}
    hidden = sorted(set(range(256)) - set(shown.values()))
    return shown | {chr(256 + place): value for place, value in enumerate(hidden)}


_BYTE_OF = _byte_values()
