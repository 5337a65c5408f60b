"""Tokens back to text, one token at a time: the only module with rules for joining tokens.

The pieces of a decoder add up to the whole text: `Tokenizer.decode` runs the same decoder over
all ids.

How words are joined
--------------------
Word tokens have lost their spacing, so it is guessed from the tokens before (never from those
after, so that text can be shown as it is written). The guess is right for 99.9 % of the gaps in
recipes and wine reviews and 99.5 % in synopses, aphorisms and plays (`benchmarks/word_spacing.py`);
most of the rest are misprints and words between single quotation marks.

=============================  ==================================================================
token                          spacing
=============================  ==================================================================
``, . ; : ! ? ) ] } %``        none before
``( [ { $ #``                  none after
``- / @ \\``                    none after; none before, unless the text begins here or an opening
                               bracket or a mark such as ``|`` or ``&`` stands before
``" _``                        opens and closes in turn; ``"`` after a digit is the inch sign
``'``                          none before, where a word stands before and no ``'`` is open; else
                               opens and closes in turn
to, by, or, and                one before, after a hyphen that hangs on a number (``3- to 4-quart``)
rest of a contraction          none before (``don't``, ``d'Avola``)
number after ``.``             none before, where a number stands before the mark (``3.5``)
three digits after ``,``       the same (``1,000``)
two digits after ``:``         none before, where one or two digits stand before it (``10:30``)
one letter after ``.``         none before, where one letter stands before the mark (``e.g.``)
any other                      one space on either side
=============================  ==================================================================
"""

import codecs
import re
import sys
from collections.abc import Container, Sequence
from copy import copy
from typing import Protocol

from tokenizers import pre_tokenizers

_CLOSING = frozenset(",.;:!?)]}%")
_OPENING = frozenset("([{$#")
_BINDING = frozenset("-/@\\")
_QUOTING = frozenset("\"'_")
_AFTER_HANGING_HYPHEN = frozenset(("to", "by", "or", "and"))
_AFTER_APOSTROPHE = frozenset(("s", "t", "d", "m", "ll", "re", "ve", "er", "en", "st"))
_BEFORE_APOSTROPHE = frozenset(("d", "l", "o"))


class Joiner(Protocol):
    """Joins the tokens of one kind. It holds immutable values only, so a copy is independent."""

    def push(self, token: str) -> str:
        """The text that this token makes final; it may be empty."""

    def flush(self) -> str:
        """The text held back so far, when no token follows."""


class Decoder:
    """Turns ids into text one by one; all pieces and the flush together equal `decode`."""

    def __init__(self, tokens: Sequence[str], stop_id: int, joiner: Joiner) -> None:
        self._tokens = tokens
        self._stop_id = stop_id
        self._joiner = joiner

    def push(self, token_id: int) -> str:
        """The text that this id makes final; empty for the stop id and for half a character."""
        if token_id == self._stop_id:
            return ""
        return self._joiner.push(self._tokens[token_id])

    def flush(self) -> str:
        """The text held back so far, when no id follows."""
        return self._joiner.flush()

    def fork(self) -> "Decoder":
        """Another decoder that has read the same ids."""
        return Decoder(self._tokens, self._stop_id, copy(self._joiner))


class PlainJoiner:
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


class ByteJoiner:
    """Joins byte-level tokens and holds back the bytes of a character not yet whole.

    Bytes that are not UTF-8 become U+FFFD, as they do in `tokenizers`' own decoder.
    """

    def __init__(self) -> None:
        self._held = b""

    def push(self, token: str) -> str:
        held = self._held + bytes_of(token)
        text, used = codecs.utf_8_decode(held, "replace")
        self._held = held[used:]
        return text

    def flush(self) -> str:
        held, self._held = self._held, b""
        return codecs.utf_8_decode(held, "replace", True)[0]


def bytes_of(token: str) -> bytes:
    """The bytes that a byte-level token stands for."""
    return bytes(map(_BYTE_OF.__getitem__, token))


def spell_bytes(token: str) -> str:
    """The text of a byte-level token; bytes of an incomplete character are written as \\xc3."""
    return bytes_of(token).decode("utf-8", "backslashreplace")


def find_unspelled(vocabulary: Container[str]) -> re.Pattern[str] | None:
    """A pattern of the characters whose bytes a byte-level vocabulary lacks; None: it has all.

    Published vocabularies may lack rare bytes. Raises ValueError if one lacks any other.
    """
    missing = sorted(byte for letter, byte in _BYTE_OF.items() if letter not in vocabulary)
    if lost := [byte for byte in missing if byte not in _RARE]:
        raise ValueError(f"its vocabulary lacks the byte {lost[0]:#04x}")
    ranges = [re.escape(chr(byte)) for byte in missing if byte < 0x80]
    for byte in missing:
        if _BEYOND_PLANE_3 <= byte <= _LAST_IN_USE:
            first = (byte & 7) << 18
            ranges.append(f"{chr(first)}-{chr(min(first + (1 << 18) - 1, sys.maxunicode))}")
    return re.compile(f"[{''.join(ranges)}]") if ranges else None


class WordJoiner:
    """Joins words and punctuation readably, by the table at the head of this module."""

    def __init__(self) -> None:
        self._before_last = ""
        self._last = ""
        self._space_next = False  # the last token allows a space after it
        self._open: frozenset[str] = frozenset()  # quotation marks that are still open

    def push(self, token: str) -> str:
        space_before, space_after = self._spacing(token)
        spaced = (space_before and self._space_next) or self._follows_hanging_hyphen(token)
        self._before_last, self._last = self._last, token
        self._space_next = space_after
        return " " + token if spaced else token

    def flush(self) -> str:
        return ""

    def _spacing(self, token: str) -> tuple[bool, bool]:
        """(space before, space after): where this token allows a space."""
        last = self._last
        if token in _QUOTING:
            inch = token == '"' and last[-1:].isdigit()
            apostrophe = token == "'" and _is_word(last)
            if token not in self._open and (inch or apostrophe):
                return False, True
            self._open = self._open ^ {token}
            opened = token in self._open
            return opened, not opened
        if token in _CLOSING:
            return False, True
        if token in _OPENING:
            return True, False
        if token in _BINDING:
            bound = _is_word(last) or last in _CLOSING | _BINDING | _QUOTING
            return not bound, not bound
        return not self._continues(token), True

    def _follows_hanging_hyphen(self, word: str) -> bool:
        hangs = self._last == "-" and self._before_last.isdigit()
        return hangs and word.lower() in _AFTER_HANGING_HYPHEN

    def _continues(self, word: str) -> bool:
        """True if the word forms one expression with the two tokens before it, as in 3.5."""
        left, mark = self._before_last, self._last
        if mark == "'":
            contracted = _is_word(left) and word.lower() in _AFTER_APOSTROPHE
            return contracted or left.lower() in _BEFORE_APOSTROPHE
        if mark == ",":
            return left.isdigit() and word.isdigit() and len(word) == 3
        if mark == ":":
            return left.isdigit() and word.isdigit() and len(left) <= 2 == len(word)
        if mark == "." and left.isdigit():
            return word.isdigit()
        return mark == "." and len(left) == len(word) == 1 and (left + word).isalpha()


def _is_word(token: str) -> bool:
    # Punctuation tokens are single ASCII marks; any other token is a word or a number.
    return token[:1].isalnum() or token[:1] > "\x7f"


def _byte_values() -> dict[str, int]:
    """The byte that each letter of a byte-level token stands for.

    GPT-2 shows printable bytes as themselves and the others, in order, from U+0100 on.
    """
    shown = {ord(letter) for letter in pre_tokenizers.ByteLevel.alphabet() if letter < "\u0100"}
    hidden = (value for value in range(256) if value not in shown)
    return {chr(value): value for value in shown} | {
        chr(0x100 + place): value for place, value in enumerate(hidden)
    }


_BYTE_OF = _byte_values()
# Bytes that begin the UTF-8 of characters beyond plane 3: tags, and those of private use.
_BEYOND_PLANE_3, _LAST_IN_USE = 0xF1, 0xF4
# These, control characters other than tabs and line breaks, and bytes that UTF-8 does not use.
_RARE = frozenset({*range(0x20), 0x7F, 0xC0, 0xC1, *range(_BEYOND_PLANE_3, 0x100)}) - {9, 10, 13}
