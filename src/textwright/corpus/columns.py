"""Which column of a table holds its text, judged by what the columns hold, not by their names.

Text is long, made of letters and spaces, and differs from record to record. So identifiers,
numbers, dates, addresses and categories are no text, and a title is less of it than a description.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from textwright.corpus.documents import text_of
from textwright.corpus.json_values import Record
from textwright.errors import CorpusError

_LETTERS = 0.6  # share of letters and spaces; of a date or a list of numbers it is less
_DISTINCT = 0.3  # share of different values; of a category it is less
_NAMED_IN_TEMPLATE = re.compile(r"[^{}]+")
_ADDRESS = re.compile(r"\S*(://|@|www\.)\S*")
_ONE_WORD = re.compile(r"[A-Za-z]+(['-][A-Za-z]+)?")


@dataclass(frozen=True)
class Column:
    """What a column holds: `text` letters and spaces a record, or 0 where it holds no text, and the
    share of its values that are `distinct`."""

    name: str
    text: float
    distinct: float

    @classmethod
    def of(cls, name: str, records: Sequence[Record]) -> "Column":
        """Judge a column by some records."""
        values = [_text(record.get(name), name) for record in records]
        filled = [value for value in values if value]
        if not filled or not _NAMED_IN_TEMPLATE.fullmatch(name):
            return cls(name, 0.0, 0.0)
        distinct = len(set(filled)) / len(filled)
        characters = sum(map(len, filled))
        letters = count_letters(filled)
        codes = sum(map(_is_code, filled))
        reads = letters > _LETTERS * characters and codes < len(filled) / 2
        return cls(
            name, letters / len(records) if reads and distinct > _DISTINCT else 0.0, distinct
        )


def columns_of(records: Sequence[Record]) -> list[str]:
    """The names of the columns, in the order in which they first occur."""
    return list(dict.fromkeys(name for record in records for name in record))


def text_column(records: Sequence[Record]) -> str | None:
    """The column with the most text; None where no column holds any."""
    columns = [Column.of(name, records) for name in columns_of(records)]
    most = max(columns, key=lambda column: column.text, default=None)
    return most.name if most and most.text else None


def title_column(records: Sequence[Record], text: str) -> str | None:
    """The column that best names a record, for a template to put before its text: the shortest of
    the other texts that hardly repeat themselves; else any other column."""
    others = [Column.of(name, records) for name in columns_of(records) if name != text]
    texts = [column for column in others if column.text]
    distinct = 0.9 * max([column.distinct for column in texts], default=0)
    names = [column for column in texts if column.distinct >= distinct]
    best = min(names or others, key=lambda column: column.text, default=None)
    return best.name if best else None


def count_letters(texts: Sequence[str]) -> int:
    """The letters and spaces of some texts, in any script; marks on a letter count as letters."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return sum(
        count
        for character, count in counts.items()
        if character.isspace() or unicodedata.category(character)[0] in "LM"
    )


def _text(value: Any, name: str) -> str:
    try:
        return text_of(value, name).strip()
    except CorpusError:  # an object or bytes, which no template can take
        return ""


def _is_code(value: str) -> bool:
    """True for an address, a file name, a handle or an identifier: one word that is not of letters.
    Scripts without spaces write sentences in one word."""
    if any(map(str.isspace, value)):
        return False
    return bool(_ADDRESS.fullmatch(value)) or (value.isascii() and not _ONE_WORD.fullmatch(value))
