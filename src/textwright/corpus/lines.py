"""Whether a plain text is a list of short items, one a line, or a text that runs on over its lines.

An item stands alone: it is a whole sentence or a name. A line of a novel, a poem, a play or a
program leans on its neighbors, and training on it alone would lose what connects them. So a text
is taken for a list only where nothing says that it runs on.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from statistics import median

from textwright.corpus.columns import count_letters
from textwright.corpus.split import FEW_DOCUMENTS

_FEW = 0.1  # in a list, no larger share of the lines does what lines of running text do
_MOST = 0.7  # in a list, at least this share of the lines does what items do
_LONGEST_ITEM = 280  # characters, as of a short message; paragraphs are longer
_NAME_WORDS = 3  # words of a typical name; a line of verse has more
_TURNS = 10  # of a speaker; the name of a series begins fewer titles

_INDENTED = re.compile(r"\s")
# Dialogue and Markdown: quotes, dashes, headings, list items, tables.
_MARKED = re.compile(r"[\"“”„«»‹›「『‘—–―*#>|+<`-]")
# After the time, if it is told.
_SPEAKER = re.compile(r"[\W\d]*([^\W\d_][^:：.!?。！？]{0,30})[:：]")
# A sentence goes on: after a comma, colon or dash, in any script.
_GOES_ON = re.compile(r".*[,;:—–\-،؛、，；：]")
_SENTENCE = re.compile(r".*[.!?…。！？｡؟۔।][\"'”’»›」』)\]]*")


def why_running(texts: Sequence[Sequence[str]]) -> str:
    """What says of the lines of some texts that one is not a list of items; empty if all are.

    Fewer than FEW_DOCUMENTS items in all are not taken for a list either: each of them would be cut
    into training and held-out parts. Texts that have fewer are judged together.
    """
    few = [lines for lines in texts if len(lines) < FEW_DOCUMENTS]
    judged = [lines for lines in texts if len(lines) >= FEW_DOCUMENTS]
    if few:
        judged.append([*chain.from_iterable(few)])
    if sum(bool(line.strip()) for lines in judged for line in lines) < FEW_DOCUMENTS:
        return "too few lines for a list"
    return next(filter(None, map(_why_running, judged)), "")


def _why_running(lines: Sequence[str]) -> str:
    items = [line.rstrip() for line in lines if line.strip()]
    if not items:
        return ""
    if len(lines) - len(items) > _FEW * len(lines):
        return "empty lines between its parts"
    if sorted(map(_width, items))[len(items) * 19 // 20] > _LONGEST_ITEM:
        return "lines as long as paragraphs"
    if _share(items, _INDENTED.match) > _FEW:
        return "indented lines"
    if _share(items, _GOES_ON.fullmatch) > _FEW:
        return "lines that end in a comma, a colon or a dash"
    if _share(items, _MARKED.match) > _FEW:
        return "lines that begin with a quote, a dash or a mark"
    if _are_turns(items):
        return "speakers take turns"
    if _share(items, _SENTENCE.fullmatch) < _MOST and not _are_names(items):
        return "lines that end within a sentence"
    return ""


def _are_names(items: Sequence[str]) -> bool:
    """Names, words or titles: letters only, and either few words or nearly all with a capital."""
    characters = sum(map(len, items))
    if count_letters(items) < (1 - _FEW) * characters:
        return False
    capitalized = _share([*chain.from_iterable(map(str.split, items))], _begins_with_capital)
    return capitalized > _MOST or median(map(_words, items)) <= _NAME_WORDS


def _are_turns(items: Sequence[str]) -> bool:
    """Several names, each with a colon, begin many lines again and again."""
    found = Counter(match[1] for match in map(_SPEAKER.match, items) if match)
    turns = [count for count in found.values() if count >= _TURNS]
    return len(turns) > 1 and sum(turns) > _FEW * len(items)


def _share(texts: Sequence[str], holds: Callable[[str], object]) -> float:
    return sum(bool(holds(text)) for text in texts) / len(texts)


def _begins_with_capital(word: str) -> bool:
    return word[:1].isupper()


def _words(text: str) -> int:
    """Words; each character of a script without spaces counts as one."""
    return max(len(text.split()), _wide(text))


def _width(text: str) -> int:
    """Columns on a terminal: a wide character, which says as much as two, has two."""
    return len(text) + _wide(text)


def _wide(text: str) -> int:
    return 0 if text.isascii() else sum(unicodedata.east_asian_width(c) == "W" for c in text)
