"""A corpus as ids on disk: written once, checked when it is opened, memory-mapped.

A folder holds two files for each part: `ids` in the narrowest type that holds the vocabulary, and
`starts`, where each document begins. `meta.json` is written last and holds their checksums.
"""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from textwright.corpus import PARTS, Corpus, Part, Piece
from textwright.errors import CorpusError
from textwright.tokenizer import Tokenizer

ENCODE_CHARACTERS = 1 << 20  # text handed to the tokenizer at a time
COUNTED_AT_ONCE = 1 << 22  # ids
META = "meta.json"
_BLOCK = 1 << 20  # bytes


class DamagedError(CorpusError):
    """A file of an encoded corpus is not as it was written."""

    def __init__(self, path: Path, reason: str):
        super().__init__(
            f"{path} is damaged ({reason}); delete its folder, or name another cache folder in "
            "TEXTWRIGHT_CACHE."
        )
        self.path = path


@dataclass(frozen=True)
class Documents:
    """The ids of one part of a corpus. ids (N,) memory-mapped · starts (documents + 1,)."""

    ids: np.ndarray
    starts: np.ndarray
    stop_id: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.ids[self.starts[index] : self.starts[index + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Number of ids of each document, the stop not counted."""
        return np.diff(self.starts)

    @property
    def targets(self) -> int:
        """Number of ids that a model predicts: every id, and a stop for each document."""
        return len(self.ids) + len(self)

    def frequencies(self, vocab_size: int) -> np.ndarray:
        """How often each id is a target, (V,) int64."""
        found = np.zeros(vocab_size, np.int64)
        for start in range(0, len(self.ids), COUNTED_AT_ONCE):
            ids = self.ids[start : start + COUNTED_AT_ONCE]
            found += np.bincount(ids, minlength=vocab_size)
        found[self.stop_id] += len(self)
        return found

    def row(self, index: int, limit: int) -> np.ndarray:
        """stop, ids, stop; cut to limit + 1 ids, so that it gives at most limit targets."""
        ids = self[index][:limit]
        row = np.full(len(ids) + 2, self.stop_id, dtype=np.int64)
        row[1:-1] = ids
        return row[: limit + 1]


def write_encoded(corpus: Corpus, tokenizer: Tokenizer, folder: Path) -> Iterator[int]:
    """Encode a corpus into a new folder, yielding how many characters were encoded each time.

    Of several documents whose ends are held out, the training text ends with its last whole line,
    or word: a model would learn to end within words. Memory does not grow with the corpus.
    """
    folder.mkdir()
    cut_short = corpus.scan().ends_held_out
    with ExitStack() as files:
        parts = {
            part: _IdsFile(files.enter_context((folder / f"{part}.ids").open("wb")), tokenizer)
            for part in PARTS
        }
        for part, piece in corpus.pieces_of(*PARTS):
            if cut_short and part == "train" and piece.last:
                piece = replace(piece, text=_to_its_break(piece.text))
            parts[part].add(piece)
            if parts[part].waiting >= ENCODE_CHARACTERS:
                yield parts[part].write()
        for part, ids in parts.items():
            yield ids.write()
            np.save(folder / f"{part}.starts.npy", np.frombuffer(ids.starts, dtype=np.int64))
    meta = {
        "files": [file.path.name for files in corpus.files.values() for file in files],
        "documents": sum(len(ids.starts) - 1 for ids in parts.values()),
        "tokens": sum(ids.written for ids in parts.values()),
        "checksums": {path.name: _checksum(path) for path in sorted(folder.iterdir())},
    }
    (folder / META).write_text(json.dumps(meta, ensure_ascii=False), "utf-8")


def open_encoded(folder: Path, tokenizer: Tokenizer) -> dict[Part, Documents]:
    """Map every part of an encoded corpus.

    Raises FileNotFoundError where there is none, DamagedError where a file is not as it was
    written.
    """
    meta = read_meta(folder)
    try:
        parts = {part: _open_part(folder, part, tokenizer) for part in PARTS}
        for name, kept in meta["checksums"].items():
            if _checksum(folder / name) != kept:
                raise DamagedError(folder / name, "its checksum is another")
    except FileNotFoundError as error:
        raise DamagedError(Path(error.filename), "it is missing") from None
    return parts


def read_meta(folder: Path) -> dict[str, Any]:
    """The content of meta.json: files, documents, tokens, checksums. Raises as `open_encoded`."""
    try:
        meta = json.loads((folder / META).read_text("utf-8"))
        known = {name: meta[name] for name in ("files", "documents", "tokens")}
        return {**known, "checksums": dict(meta["checksums"])}
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(folder / META, str(error)) from None


def _to_its_break(text: str) -> str:
    """The text without what follows its last line break, or else its last space."""
    kept = text.rpartition("\n")[0].rstrip() or text.rpartition(" ")[0].rstrip()
    return kept or text


class _IdsFile:
    """The ids of one part, collected and written for many pieces at a time."""

    def __init__(self, file: IO[bytes], tokenizer: Tokenizer):
        self.file, self.tokenizer = file, tokenizer
        self.type = _narrowest_type(tokenizer)
        self.starts = array("q", [0])
        self.pieces: list[Piece] = []
        self.waiting = 0  # characters not yet encoded
        self.written = 0  # ids

    def add(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self.waiting += len(piece.text)

    def write(self) -> int:
        """Encode and write the waiting pieces; returns their characters."""
        characters = self.waiting
        encoded = self.tokenizer.encode_batch([piece.text for piece in self.pieces])
        for ids, piece in zip(encoded, self.pieces, strict=True):
            self.file.write(ids.astype(self.type).tobytes())
            self.written += len(ids)
            if piece.last:
                self.starts.append(self.written)
        self.pieces, self.waiting = [], 0
        return characters


def _open_part(folder: Path, part: Part, tokenizer: Tokenizer) -> Documents:
    path, type_ = folder / f"{part}.starts.npy", _narrowest_type(tokenizer)
    try:
        starts = np.load(path, mmap_mode="r")
    except OSError:
        raise
    except Exception as error:  # numpy parses the header as Python, which can fail in any way
        raise DamagedError(path, str(error)) from None
    if starts.dtype != np.int64 or starts.ndim != 1 or not len(starts):
        raise DamagedError(path, f"it holds {starts.dtype} of shape {starts.shape}")
    if starts[0] != 0 or (np.diff(starts) < 0).any():
        raise DamagedError(path, "its numbers do not increase from 0")
    path = folder / f"{part}.ids"
    size, expected = path.stat().st_size, int(starts[-1]) * type_.itemsize
    if size != expected:
        raise DamagedError(path, f"it has {size:,} bytes instead of {expected:,}")
    # An empty file cannot be mapped.
    ids = np.memmap(path, dtype=type_, mode="r") if size else np.empty(0, type_)
    return Documents(ids, starts, tokenizer.stop_id)


def _narrowest_type(tokenizer: Tokenizer) -> np.dtype:
    return np.min_scalar_type(tokenizer.vocab_size - 1)


def _checksum(path: Path) -> int:
    """CRC-32: it finds every burst of up to 32 wrong bits, and misses one in 4e9 of others."""
    # Read, not mapped: pages of a map would count as this process' memory.
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum
