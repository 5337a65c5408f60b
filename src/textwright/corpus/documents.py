"""A raw record → a document: the template, then every cleaning step, in a stated order.

1. `drop_where` on the record · 2. template; a named field that is missing, null or empty drops
the record · 3. `drop_prefixes` · 4. `cut_from` · 5. `drop_phrases` · 6. `ascii_only` and
`strip_symbols` · 7. `min_words`, `max_words` · 8. `lowercase` · 9. `stem`. So placeholders
and phrases are sought in the text as it was written, and words are counted in the text as kept.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

from pydantic import Field, field_validator

from textwright.corpus.json_values import Record
from textwright.corpus.plain_text import Stretches
from textwright.errors import CorpusError
from textwright.options import Options
from textwright.wording import counted


class CorpusOptions(Options):
    """How files become documents, and which documents are held out."""

    format: Literal["auto", "text", "csv", "tsv", "json", "jsonl", "parquet"] = Field(
        "auto", description="file format; auto takes it from the name, else from the content"
    )
    encoding: str = Field("utf-8", description="character encoding of the files, such as cp1252")
    unit: Literal["auto", "file", "line", "block"] = Field(
        "auto",
        description="plain text: one document a file, line or block between blank lines; auto: "
        "line for a list of short items, else file",
    )
    template: str = Field(
        "auto",
        description="a document's text with {field} where a field goes, such as "
        "'Recipe for {title} | {directions}'; auto: the column that holds the most text; empty: "
        "the only column, or the one named text",
    )
    drop_where: list[str] = Field(
        [], description="drop records: 'column=value', or 'column~value' for a column with a list"
    )
    drop_prefixes: list[str] = Field(
        [], description="drop documents that begin with one of these, or a field of which does"
    )
    cut_from: list[str] = Field(
        [], description="cut each document at the first of these, such as '(Source'"
    )
    drop_phrases: list[str] = Field(
        [], description="drop documents that contain one of these, in any letter case"
    )
    min_words: int = Field(0, ge=0, description="drop documents with fewer words")
    max_words: int = Field(0, ge=0, description="drop documents with more words; 0 is no limit")
    ascii_only: bool = Field(False, description="strip characters that are not ASCII")
    strip_symbols: str = Field("", description="characters to strip")
    lowercase: bool = Field(False, description="lower-case the documents themselves")
    stem: bool = Field(False, description="replace words by their English (Snowball) stems")
    split_by: list[str] = Field(
        [], description="fields whose hash decides the split; empty takes those of the template"
    )
    split_salt: str = Field(
        "textwright", description="salt of that hash; another one gives another split"
    )

    @field_validator("encoding")
    @classmethod
    def _is_text_encoding(cls, name: str) -> str:
        try:
            "".encode(name)
        except (LookupError, ValueError):  # ValueError: a name with a zero byte
            raise ValueError(
                "there is no such encoding of text; name one such as utf-8, cp1252 or utf-16"
            ) from None
        return name


class Template:
    """A text with `{field}` where values go; `{{` and `}}` stand for braces.

    `slots` are the fields in the order of the text, `literals` the text before, between and after
    them, `fields` each field once, in order of first use. Raises CorpusError where a brace stands
    alone or no field is named.
    """

    def __init__(self, text: str):
        self.text = text
        self.slots: list[str] = []
        self.literals = [""]
        for literal, escaped, slot, stray in _TEMPLATE.findall(text):
            if stray:
                raise CorpusError(
                    f'The template "{text}" has a lone {stray}: write {{field}} for a field and '
                    f"{stray * 2} for the character."
                )
            if slot:
                self.slots.append(slot)
                self.literals.append("")
            self.literals[-1] += escaped[:1] or literal
        if not self.slots:
            raise CorpusError(
                f'The template "{text}" names no field: write {{column}} where its text goes.'
            )
        self._form = "%s".join([literal.replace("%", "%%") for literal in self.literals])
        self.fields = list(dict.fromkeys(self.slots))
        self.plain = text == "{" + self.slots[0] + "}"

    def render(self, values: dict[str, str]) -> str:
        """The text with each field's value in its place."""
        return self._form % tuple([values[slot] for slot in self.slots])


_TEMPLATE = re.compile(r"([^{}]+)|(\{\{|\}\})|\{([^{}]+)\}|([{}])")


def text_of(value: Any, field: str = "") -> str:
    """A field's value as text: list items joined by one space, null and NaN as empty text."""
    kind = type(value)
    if kind is str:
        return value
    if value is None:
        return ""
    if kind is list or kind is tuple:
        try:
            return " ".join(value)
        except TypeError:
            return " ".join([text_of(item, field) for item in value if item is not None])
    if kind is bool:
        return "true" if value else "false"
    if kind is float and value != value:
        return ""
    if kind is dict or kind is bytes:
        what = "an object with fields of its own" if kind is dict else "bytes that are not text"
        raise CorpusError(
            f"The field {field} holds {what}: name a field that holds text, or write what is "
            "inside as records of their own."
        )
    return str(value)


class Cleaner:
    """Turns records into documents by `options`, and counts the dropped ones by reason.

    Call `values(record)`, then `text(values)`; each gives None where the document is dropped. A
    value that is still `Stretches` is a whole document; `trim` cleans each of its stretches.
    """

    def __init__(self, options: CorpusOptions, template: Template):
        self.template = template
        self.dropped: Counter[str] = Counter()
        self._fields = template.fields
        self._drop_where = [_Condition(text) for text in options.drop_where]
        self._prefixes = options.drop_prefixes
        self._phrases = [(phrase, phrase.casefold()) for phrase in options.drop_phrases]
        self._cut = _any_of(options.cut_from)
        self._least, self._most = options.min_words, options.max_words
        if self._most and self._most < self._least:
            raise CorpusError(
                f"max_words {self._most} is less than min_words {self._least}: raise it, or set 0."
            )
        self._steps = _trimming(options)
        limits = self._least or self._most
        whole = bool(self._prefixes or self._phrases or self._cut or limits)
        self._streams = template.plain and not whole and not self._drop_where
        self.columns = [*self._fields, *(each.column for each in self._drop_where)]

    def values(self, record: Record) -> dict[str, Any] | None:
        """The template's fields as text; a long document stays `Stretches` if it can."""
        for condition in self._drop_where:
            if condition.holds(record):
                self.dropped[condition.text] += 1
                return None
        values = {}
        for field in self._fields:
            value = record.get(field)
            if type(value) is not str:
                if type(value) is Stretches:
                    if self._streams:
                        return {field: value}
                    value = "".join(value)
                else:
                    value = text_of(value, field)
            if not value or value.isspace():
                self.dropped[f"no {field}"] += 1
                return None
            values[field] = value
        return values

    def text(self, values: dict[str, str]) -> str | None:
        """The document, cleaned."""
        text = self.template.render(values)
        for prefix in self._prefixes:
            if any(start.lstrip().startswith(prefix) for start in (text, *values.values())):
                return self._drop(f'begins with "{prefix}"')
        if self._cut and (found := self._cut.search(text)):
            text = text[: found.start()].rstrip()
        if self._phrases:
            folded = text.casefold()
            for phrase, sought in self._phrases:
                if sought in folded:
                    return self._drop(f'contains "{phrase}"')
        text = self.trim(text)
        if self._least or self._most:
            words = len(text.split())
            if words < self._least:
                return self._drop(f"fewer than {counted(self._least, 'word')}")
            if self._most and words > self._most:
                return self._drop(f"more than {counted(self._most, 'word')}")
        return text

    def trim(self, text: str) -> str:
        """Clean a document, or a stretch of one, by the steps that need no more than a stretch."""
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if not text.isascii():
            text = _without_surrogates(text)
        for step in self._steps:
            text = step(text)
        return text

    def _drop(self, reason: str) -> str | None:
        self.dropped[reason] += 1
        return None


class _Condition:
    """A condition on a record: `column=value` or `column~value`."""

    def __init__(self, text: str):
        found = re.fullmatch(r"([^=~]+)([=~])(.*)", text, re.DOTALL)
        if not found:
            raise CorpusError(
                f'drop_where "{text}" is neither column=value nor column~value: write one of them.'
            )
        self.text = text
        self.column, kind, self._value = found.groups()
        self.holds = self._equals if kind == "=" else self._lists

    def _equals(self, record: Record) -> bool:
        return text_of(record.get(self.column), self.column) == self._value

    def _lists(self, record: Record) -> bool:
        value = record.get(self.column)
        if isinstance(value, (list, tuple)):
            return self._value in [text_of(item, self.column) for item in value]
        listed = text_of(value, self.column)
        if self._value not in listed:  # a quick test, which most records fail
            return False
        # "a, b", '["a", "b"]' and "['a', 'b']" all occur in published tables.
        items = listed.strip().removeprefix("[").removesuffix("]").split(",")
        return self._value in [item.strip().strip("\"'") for item in items]


def _any_of(phrases: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(re.escape, phrases))) if any(phrases) else None


def _without_surrogates(text: str) -> str:
    # JSON can write half of a pair ("\ud83d"); no encoder accepts it, so it becomes U+FFFD.
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _trimming(options: CorpusOptions) -> list[Callable[[str], str]]:
    steps: list[Callable[[str], str]] = []
    if options.ascii_only:
        steps.append(lambda text: text if text.isascii() else _NOT_ASCII.sub("", text))
    if options.strip_symbols:
        table = dict.fromkeys(map(ord, options.strip_symbols))
        steps.append(lambda text: text.translate(table))
    if options.lowercase:
        steps.append(str.lower)
    if options.stem:
        steps.append(_stemmer())
    return steps


_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def _stemmer() -> Callable[[str], str]:
    # Imported here, so that only stemming pays for it.
    from snowballstemmer import stemmer

    stem = lru_cache(1 << 16)(stemmer("english").stemWord)

    def stem_words(text: str) -> str:
        return _WORD.sub(lambda found: stem(found[0].lower()), text)

    return stem_words
