"""A data file → raw records: dicts of fields, streamed, with values as they were written.

Nothing is guessed about types: "007" stays "007", and a JSON number keeps its spelling. Line
breaks of any system are read as "\\n"; a byte-order mark is skipped.
"""

import codecs
import csv
import difflib
import gzip
import io
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO

from textwright.corpus.json_values import Record, read_json, read_json_lines
from textwright.corpus.plain_text import read_text
from textwright.corpus.sources import (
    DAMAGED,
    SourceFile,
    open_binary,
    refuse_changed,
    unreadable,
)
from textwright.errors import CorpusError
from textwright.wording import meant

_LONGEST_CELL = 1 << 26  # characters; in a longer cell a quote was surely never closed
_BLOCK = 1 << 20  # bytes
_HEAD = 1000  # lines that say whether double quotes are quotation marks
_QUOTED = re.compile(r'"[^"]*"')
_DECLARED = re.compile(r'"?sep=(.)"?\s*')  # a first line by which a spreadsheet names the separator
# A cell that goes on after its closing quote: as most TSV is written, quotes stand for themselves.
_PLAIN_QUOTE = re.compile(r'(?:^|\t)"(?:[^"\t]|"")*"[^"\t\r\n]')
_END = "\0end of file"
# How files begin that hold no plain text, and what they are.
_ZIP = b"PK\x03\x04"
_NO_TEXT = {
    _ZIP: "a zip file: unpack it to text, CSV, JSON or Parquet",
    b"\x28\xb5\x2f\xfd": "a zstd file: unpack it to text, CSV, JSON or Parquet",
    b"%PDF": "a PDF file: save its text as plain text (UTF-8)",
    b"{\\rtf": "a text with formatting (RTF): save it as plain text (UTF-8)",
    b"\xd0\xcf\x11\xe0": "a file of an older Word or Excel: save it as plain text or CSV (UTF-8)",
}
_SHEET = "a spreadsheet: save its sheet as CSV (UTF-8)"
_DOCUMENT = "a document of a word processor: save it as plain text (UTF-8)"
_PACKED = {  # zip files by another name
    ".xlsx": _SHEET,
    ".ods": _SHEET,
    ".docx": _DOCUMENT,
    ".odt": _DOCUMENT,
    ".epub": "an e-book: save it as plain text (UTF-8)",
}


def read_records(
    file: SourceFile,
    *,
    encoding: str = "utf-8",
    unit: str = "file",
    columns: Iterable[str] = (),
    on_read: Callable[[int], None] | None = None,
) -> Iterator[Record]:
    """The records of a file, in order.

    Plain text gives `{"text": …}` per `unit` (file, line or block), the value of a long document
    as `Stretches`; strings and symbol lists in JSON give `{"text": …}` too. `columns` are those
    needed: CSV, TSV and Parquet files must have them. Raises CorpusError, which names the file
    and the place, where reading fails or the file has changed since it was found.
    """
    columns = tuple(columns)
    path = file.path
    with _reading(file, encoding), open_binary(path, on_read) as stream:
        if file.format == "parquet":
            yield from _read_parquet(stream, path, columns)
            return
        _refuse_other_files(stream, path, encoding)
        with _decode(stream, encoding) as text:
            if file.format == "text":
                # A long document is read while the caller iterates it: its errors occur there.
                yield from read_text(text, unit, lambda: _reading(file, encoding))
            elif file.format in ("csv", "tsv"):
                yield from _read_table(text, path, file.format, columns)
            elif file.format == "jsonl":
                yield from read_json_lines(text, path)
            else:
                yield from read_json(text, path)


@contextmanager
def _reading(file: SourceFile, encoding: str) -> Iterator[None]:
    """Raise errors as CorpusError; a change of the file comes before the errors it causes."""
    with _sentences(file.path, encoding):
        refuse_changed(file)
        try:
            yield
        except Exception:
            refuse_changed(file)
            raise
        refuse_changed(file)


@contextmanager
def _sentences(path: Path, encoding: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise _wrong_encoding(path, encoding) from error
    except UnicodeError as error:  # UTF-16 or UTF-32 without a mark of its byte order
        raise CorpusError(
            f"{path} is not {encoding} ({error}): give the encoding of the file with --set "
            "corpus.encoding=…, such as utf-8 or utf-16-le."
        ) from error
    except DAMAGED as error:
        raise CorpusError(
            f"{path} is damaged or cut short ({error}): fetch or compress it again."
        ) from error
    except RecursionError as error:
        raise CorpusError(f"{path} nests too deeply: give a list of records.") from error
    except OSError as error:
        raise unreadable(path, error) from error


# CSV and TSV


def _read_table(
    handle: io.TextIOWrapper, path: Path, format: str, columns: tuple[str, ...]
) -> Iterator[Record]:
    first, skipped = handle.readline(), 0
    declared = _DECLARED.fullmatch(first)
    if declared:
        first, skipped = handle.readline(), 1
    if not first:
        return
    csv.field_size_limit(_LONGEST_CELL)  # The module's own limit is less than a short story.
    # The csv module does not report an open quote, so a last row of our own is added: it arrives as
    # a row only if none is open. Items of the chain are lines, with or without a line feed.
    head = [first, *islice(handle, _HEAD)]
    lines = chain(head, handle, [_END])
    plain = format == "tsv" and any(map(_PLAIN_QUOTE.search, head))
    rows = csv.reader(
        lines,
        delimiter=declared[1] if declared else _delimiter(first, format),
        quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL,
    )
    started = 1 + skipped
    try:
        header = next(rows)
        require_columns(path, header, columns)
        width = len(header)
        started = rows.line_num + 1 + skipped
        for row in rows:
            if row and row[-1].endswith(_END):
                if row == [_END]:
                    return
                break
            if len(row) == width:
                yield dict(zip(header, row, strict=True))
            elif len(row) > width and any(row[width:]):
                raise CorpusError(
                    f"Line {started:,} of {path} has {len(row)} cells where the header has "
                    f"{width}: put cells that hold the separator between double quotes."
                )
            elif row:
                yield dict(zip(header, row, strict=False))
            started = rows.line_num + 1 + skipped
    except csv.Error as error:
        raise CorpusError(
            f"Line {started:,} of {path} is not {format.upper()} ({error}): check its quotes."
        ) from error
    raise CorpusError(
        f"A double quote opened in line {started:,} of {path} is never closed: close it, or "
        "double the quotes inside a cell."
    )


def _delimiter(header: str, format: str) -> str:
    if format == "tsv":
        return "\t"
    # Spreadsheets write ";" where the comma is the decimal sign.
    return max(",;\t|", key=_QUOTED.sub("", header).count)


# Parquet


def _read_parquet(stream: IO[bytes], path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    import pyarrow
    from pyarrow import parquet

    if isinstance(stream, gzip.GzipFile):
        # Parquet is read from its end: a gzipped one is unpacked on disk, not in memory.
        with tempfile.TemporaryFile() as unpacked:
            shutil.copyfileobj(stream, unpacked)
            yield from _read_parquet(unpacked, path, columns)
        return
    try:
        with parquet.ParquetFile(stream, pre_buffer=False, buffer_size=_BLOCK) as table:
            names = table.schema_arrow.names
            require_columns(path, names, columns)
            wanted = [name for name in names if name in columns] or None
            for batch in table.iter_batches(256, columns=wanted, use_threads=False):
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise CorpusError(
            f"{path} is not a valid Parquet file: fetch or write it again."
        ) from error


# Errors


def require_columns(path: Path, present: list[str], wanted: Iterable[str]) -> None:
    """Raise CorpusError, which lists the columns present, unless all wanted ones are."""
    missing = [name for name in wanted if name not in present]
    if missing:
        names = [name if name == name.strip() else repr(name) for name in map(str, present)]
        near = meant(difflib.get_close_matches(missing[0], names, n=1))
        raise CorpusError(
            f"{path} has no column {missing[0]}: name one of {', '.join(names)}{near}."
        )


def _decode(stream: IO[bytes], encoding: str) -> io.TextIOWrapper:
    if codecs.lookup(encoding).name == "utf-8":
        encoding = "utf-8-sig"  # UTF-8, with or without a byte-order mark
    return io.TextIOWrapper(stream, encoding=encoding, newline=None)


def _refuse_other_files(stream: IO[bytes], path: Path, encoding: str) -> None:
    """Refuse what is known not to be text in this encoding by how it begins."""
    # UTF-16 of plain English is valid UTF-8, full of zero bytes: it is detected by these.
    if not encoding.lower().replace("-", "").startswith(("utf8", "cp", "latin", "ascii", "iso")):
        return
    head = stream.peek(4096)[:4096]  # type: ignore[attr-defined]
    marked = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if marked or (head.count(0) > len(head) // 5):
        even = head[::2].count(0) > head[1::2].count(0)
        name = "utf-16" if marked else "utf-16-be" if even else "utf-16-le"
        raise CorpusError(
            f"{path} is not {encoding} from byte 0 on: it looks like {name}; "
            f"give --set corpus.encoding={name}."
        )
    for magic, advice in _NO_TEXT.items():
        if head.startswith(magic):
            packed = _PACKED.get(path.suffix.lower()) if magic == _ZIP else None
            raise CorpusError(f"{path} is {packed or advice}.")


def _wrong_encoding(path: Path, encoding: str) -> CorpusError:
    """Find the byte that cannot be read, in a pass of its own since decoders do not report it."""
    decoder = codecs.getincrementaldecoder(encoding)()
    position, value = 0, 0
    with open_binary(path) as stream:
        block = b"-"
        while block:
            block = stream.read(_BLOCK)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                position += error.start - pending
                value = error.object[error.start]
                break
            position += len(block)
    hint = "set corpus.encoding to the encoding it was saved in."
    if encoding.lower().startswith("utf"):
        hint = (
            "give the encoding it was saved in, such as --set corpus.encoding=cp1252 if a Windows "
            "program wrote it in a Western European language (Cyrillic: cp1251)."
        )
    return CorpusError(f"{path} is not {encoding} at byte {position:,} (0x{value:02x}): {hint}")
