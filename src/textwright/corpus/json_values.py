"""JSON text → records: a list is decoded as it is read, and numbers keep their spelling.

The standard library decodes one value at a time from a window over the file, so a list of any
length needs the memory of its longest record.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textwright.errors import CorpusError

Record = dict[str, Any]

_WINDOW = 1 << 20  # characters


def _constant(name: str) -> str | None:
    return None if name == "NaN" else name


_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_constant)


def read_json_lines(handle: io.TextIOWrapper, path: Path) -> Iterator[Record]:
    """One value a line; blank lines are skipped. Raises CorpusError, naming the line."""
    decode = _DECODER.decode
    for number, line in enumerate(handle, 1):
        if line.isspace():
            continue
        try:
            value = decode(line)
        except json.JSONDecodeError as error:
            raise CorpusError(
                f"Line {number:,} of {path} is not JSON ({error.msg}): give one value a line, "
                "or set corpus.format=json if the file is one list."
            ) from error
        yield value if type(value) is dict else _wrap(value, path)


def read_json(handle: io.TextIOWrapper, path: Path) -> Iterator[Record]:
    """The items of a JSON list, or values that follow each other, decoded as they are read.

    Raises CorpusError, naming the line, where the text is not JSON or is cut short.
    """
    scan = _Scan(handle, path)
    listed = scan.skip("[")
    while scan.more():
        if listed and scan.skip("]"):
            if scan.more():
                raise scan.wrong(
                    "more text follows the list; set corpus.format=jsonl if each line is one"
                )
            return
        value = scan.value()
        yield value if type(value) is dict else _wrap(value, path)
        if listed and not scan.skip(",") and not scan.at("]"):
            raise scan.wrong("the list is cut short or lacks a comma")
    if listed:
        raise scan.wrong("the list is cut short")


class _Scan:
    """A window over JSON text that grows to one value and moves on."""

    def __init__(self, handle: io.TextIOWrapper, path: Path):
        self._handle, self._path = handle, path
        self._text, self._at, self._line = "", 0, 1

    def more(self) -> bool:
        """Skip white space; True if any text is left."""
        while True:
            text, at = self._text, self._at
            while at < len(text) and text[at] in " \n\t":
                at += 1
            self._at = at
            if at < len(text):
                return True
            if not self._fill():
                return False

    def at(self, mark: str) -> bool:
        return self.more() and self._text[self._at] == mark

    def skip(self, mark: str) -> bool:
        found = self.at(mark)
        self._at += found
        return found

    def value(self) -> Any:
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # Near the end of the window a value may just be cut off; elsewhere it is wrong.
                cut = error.pos > len(self._text) - 16 or error.msg.startswith("Unterminated")
                if cut and self._fill():
                    continue
                raise self.wrong(error.msg, error.pos) from error
            # A number may go on in the next window.
            if end < len(self._text) or not self._fill():
                self._at = end
                return value

    def wrong(self, what: str, at: int | None = None) -> CorpusError:
        line = self._line + self._text.count("\n", 0, self._at if at is None else at)
        return CorpusError(f"{self._path} is not JSON at line {line:,}: {what}.")

    def _fill(self) -> bool:
        # Reads at least as much as is kept, so that a long value is decoded only a few times.
        kept = len(self._text) - self._at
        more = self._handle.read(max(_WINDOW, kept))
        if not more:
            return False
        self._line += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :] + more, 0
        return True


def _wrap(value: Any, path: Path) -> Record:
    if value is None:
        return {}
    if isinstance(value, list):
        return {"text": _join_symbols(value, path)}
    if isinstance(value, bool):
        raise CorpusError(f"{path} lists true or false: give records, texts or symbols.")
    return {"text": value}


def _join_symbols(symbols: list[Any], path: Path) -> str:
    for symbol in symbols:
        if not isinstance(symbol, str) or symbol.split() != [symbol]:
            shown = json.dumps(symbol, ensure_ascii=False)
            raise CorpusError(
                f"{path} has the symbol {shown:.60}: a symbol is a text without white space; "
                "rename it, or give records with fields."
            )
    return " ".join(symbols)
