"""Documents → memory-mapped ids → batches, each a pure function of (data, seed, step).

`prepare` encodes a corpus once into two flat files, `ids` in the narrowest type that holds the
vocabulary and `starts`, kept under the fingerprints of corpus and tokenizer. A layout then says
how batches are cut from them. The cursor of a training run is one integer, the step.

Letters: B rows of a batch, T time.
"""

from __future__ import annotations

import json
import os
import shutil
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np

from textwright.config import Config, DataOptions
from textwright.corpus import PARTS, Corpus, Part, Piece
from textwright.errors import CorpusError
from textwright.tokenizer import Tokenizer

PADDING_TARGET = -100  # a target that is not counted
LENGTH_WINDOW = 50  # batches among which rows of similar length meet
ENCODE_CHARACTERS = 1 << 20  # text handed to the tokenizer at a time
ENCODING_VERSION = 1  # raised when the same tokenizer comes to give other ids, or is stored anew


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
        """Ids of each document, the stop not counted."""
        return np.diff(self.starts)

    @property
    def targets(self) -> int:
        """What a model must predict: every id, and a stop for each document."""
        return len(self.ids) + len(self)

    def row(self, index: int, limit: int | None = None) -> np.ndarray:
        """stop, ids, stop; cut to limit + 1 ids, so that it gives at most limit targets."""
        ids = self[index]
        end = len(ids) if limit is None else min(len(ids), limit)
        row = np.full(end + 2, self.stop_id, dtype=np.int64)
        row[1 : end + 1] = ids[:end]
        return row if limit is None else row[: limit + 1]


@dataclass(frozen=True)
class Batch:
    """inputs, targets (B, T) int64; a target of −100 is not counted. carry: whether the rows go on
    where those of the last batch ended."""

    inputs: np.ndarray
    targets: np.ndarray
    carry: bool


def cache_folder() -> Path:
    """Where encoded corpora are kept: TEXTWRIGHT_CACHE, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TEXTWRIGHT_CACHE") or Path(base) / "textwright")


def prepare(
    corpus: Corpus,
    tokenizer: Tokenizer,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[Part, Documents]:
    """Encode each part, or find it encoded. Memory does not grow with the corpus.

    What is kept is found again by the fingerprints of corpus and tokenizer and by
    ENCODING_VERSION, for the code that encodes may change while both stay as they are.
    """
    key = f"{corpus.fingerprint[:16]}-{tokenizer.fingerprint[:16]}-{ENCODING_VERSION}"
    folder = cache_folder() / key
    if not (folder / "meta.json").exists():
        building = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(building, ignore_errors=True)
        try:
            building.mkdir(parents=True)
            total, done = corpus.scan().characters, 0
            for characters in _encode(corpus, tokenizer, building):
                done += characters
                if on_progress:
                    on_progress(done, total)
            (building / "meta.json").write_text(json.dumps({"corpus": corpus.fingerprint}))
            if not (folder / "meta.json").exists():  # another process may have been faster
                shutil.rmtree(folder, ignore_errors=True)  # half deleted, so not to be trusted
                os.replace(building, folder)
        except OSError as error:
            raise CorpusError(
                f"Cannot keep the encoded corpus in {folder.parent}: {error.strerror}; free some "
                "space, or name another folder in TEXTWRIGHT_CACHE."
            ) from None
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return {part: _open(folder, part, tokenizer) for part in PARTS}


def _encode(corpus: Corpus, tokenizer: Tokenizer, folder: Path) -> Iterator[int]:
    """Write the two files of every part, yielding the characters done."""
    with ExitStack() as files:
        writers = {
            part: _PartEncoder(files.enter_context((folder / f"{part}.ids").open("wb")), tokenizer)
            for part in PARTS
        }
        for part, piece in corpus.pieces_of(*PARTS):
            writers[part].add(piece)
            if writers[part].size >= ENCODE_CHARACTERS:
                yield writers[part].write()
        for part, writer in writers.items():
            yield writer.write()
            np.save(folder / f"{part}.starts.npy", np.frombuffer(writer.starts, dtype=np.int64))


class _PartEncoder:
    """Collects the pieces of one part and writes their ids, many at a time."""

    def __init__(self, file: IO[bytes], tokenizer: Tokenizer):
        self.file, self.tokenizer = file, tokenizer
        self.kind = _narrowest(tokenizer.vocab_size)
        self.starts = array("q", [0])
        self.pieces: list[Piece] = []
        self.size = self.written = 0

    def add(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self.size += len(piece.text)

    def write(self) -> int:
        """Write what was collected → its characters."""
        done = self.size
        encoded = self.tokenizer.encode_batch([piece.text for piece in self.pieces])
        for ids, piece in zip(encoded, self.pieces, strict=True):
            self.file.write(ids.astype(self.kind).tobytes())
            self.written += len(ids)
            if piece.last:
                self.starts.append(self.written)
        self.pieces, self.size = [], 0
        return done


def _open(folder: Path, part: Part, tokenizer: Tokenizer) -> Documents:
    path, kind = folder / f"{part}.ids", _narrowest(tokenizer.vocab_size)
    empty = path.stat().st_size == 0  # an empty file cannot be mapped
    ids = np.empty(0, kind) if empty else np.memmap(path, dtype=kind, mode="r")
    starts = np.load(folder / f"{part}.starts.npy", mmap_mode="r")
    return Documents(ids, starts, tokenizer.stop_id)


def _narrowest(vocab_size: int) -> np.dtype:
    return np.min_scalar_type(vocab_size - 1)


def choose_layout(config: Config, documents: Documents) -> Config:
    """The layout `auto` becomes rows where at least half the documents fit the context; else
    stream, or windows for a model that cannot carry its state."""
    options = config.data
    if options.layout != "auto":
        return config
    fit = len(documents) and np.median(documents.lengths) <= options.context_length
    cut_anywhere = "windows" if config.model.family == "gpt" else "stream"
    data = options.model_copy(update={"layout": "rows" if fit else cut_anywhere})
    return config.model_copy(update={"data": data})


class Rows:
    """One document a row, cut to the context and padded to the longest of its batch.

    Documents are shuffled anew each epoch; inside windows of LENGTH_WINDOW batches, rows of
    similar length are put together, so that little is spent on padding.
    """

    carries = False

    def __init__(self, documents: Documents, context_length: int, batch_size: int, seed: int):
        self.documents, self.context_length = documents, context_length
        self.batch_size, self.seed = batch_size, seed
        self.steps_per_epoch = -(-len(documents) // batch_size)
        self.order = lru_cache(maxsize=1)(self._shuffle)

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        """The rows of a step, or a part-th share of them."""
        epoch, index = divmod(step, self.steps_per_epoch)
        chosen = self.order(epoch)[index][part::parts]
        rows = [self.documents.row(document, self.context_length) for document in chosen]
        width = max(map(len, rows), default=2) - 1
        inputs = np.full((len(rows), width), self.documents.stop_id, dtype=np.int64)
        targets = np.full((len(rows), width), PADDING_TARGET, dtype=np.int64)
        for at, row in enumerate(rows):
            inputs[at, : len(row) - 1] = row[:-1]
            targets[at, : len(row) - 1] = row[1:]
        return Batch(inputs, targets, carry=False)

    def _shuffle(self, epoch: int) -> list[np.ndarray]:
        """The documents of every batch of an epoch."""
        random = np.random.default_rng((self.seed, epoch))
        shuffled = random.permutation(len(self.documents))
        lengths = np.minimum(self.documents.lengths, self.context_length)
        batches: list[np.ndarray] = []
        window = LENGTH_WINDOW * self.batch_size
        for start in range(0, len(shuffled), window):
            group = shuffled[start : start + window]
            group = group[np.argsort(lengths[group], kind="stable")]
            cuts = range(self.batch_size, len(group), self.batch_size)
            split = np.split(group, list(cuts))
            batches += [split[i] for i in random.permutation(len(split))]
        return batches


class CircularText:
    """All documents as one circular text: stop, first document, stop, second document, …

    Their order is drawn anew each epoch.
    """

    def __init__(self, documents: Documents, seed: int):
        self.documents, self.seed = documents, seed
        self.length = documents.targets
        self.order = lru_cache(maxsize=1)(self._shuffle)

    def read(self, epoch: int, start: int, count: int) -> np.ndarray:
        """count ids from a place in the epoch's text, going round at its end."""
        order, ends = self.order(epoch)
        ids = np.empty(count, dtype=np.int64)
        filled, place = 0, start % self.length
        while filled < count:
            at = int(np.searchsorted(ends, place, side="right"))
            document = self.documents[order[at]]
            offset = place - (int(ends[at - 1]) if at else 0)  # 0 is the stop before the document
            if offset == 0:
                ids[filled] = self.documents.stop_id
                filled, offset = filled + 1, 1
            taken = min(count - filled, len(document) + 1 - offset)
            ids[filled : filled + taken] = document[offset - 1 : offset - 1 + taken]
            filled += taken
            place = int(ends[at]) % self.length
        return ids

    def _shuffle(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.documents))
        return order, np.cumsum(self.documents.lengths[order] + 1)


class Windows:
    """Rows of exactly T tokens from anywhere, document ends included; another cut each epoch."""

    carries = False

    def __init__(self, documents: Documents, context_length: int, batch_size: int, seed: int):
        self.stream, self.seed = CircularText(documents, seed), seed
        self.context_length, self.batch_size = context_length, batch_size
        self.count = -(-self.stream.length // context_length)
        self.steps_per_epoch = -(-self.count // batch_size)
        self.order = lru_cache(maxsize=1)(self._shuffle)

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        epoch, index = divmod(step, self.steps_per_epoch)
        first, order = self.order(epoch)
        windows = order[index * self.batch_size :][: self.batch_size][part::parts]
        width = self.context_length
        rows = [self.stream.read(epoch, first + w * width, width + 1) for w in windows.tolist()]
        ids = np.stack(rows) if rows else np.empty((0, width + 1), dtype=np.int64)
        return Batch(ids[:, :-1], ids[:, 1:], carry=False)

    def _shuffle(self, epoch: int) -> tuple[int, np.ndarray]:
        random = np.random.default_rng((self.seed, epoch, 1))
        return int(random.integers(self.stream.length)), random.permutation(self.count)


class Lanes:
    """B readers at equal distances in one continuous text; each batch takes up where it left off.

    The state is carried from batch to batch and begins anew with each epoch's order.
    """

    carries = True

    def __init__(self, documents: Documents, context_length: int, batch_size: int, seed: int):
        self.stream = CircularText(documents, seed)
        self.context_length, self.batch_size = context_length, batch_size
        self.lane = -(-self.stream.length // batch_size)  # ids that one reader reads in an epoch
        self.steps_per_epoch = -(-self.lane // context_length)

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        epoch, index = divmod(step, self.steps_per_epoch)
        start = index * self.context_length
        width = min(self.context_length, self.lane - start)
        lanes = range(self.batch_size)[part::parts]
        rows = [self.stream.read(epoch, b * self.lane + start, width + 1) for b in lanes]
        ids = np.stack(rows) if rows else np.empty((0, width + 1), dtype=np.int64)
        return Batch(ids[:, :-1], ids[:, 1:], carry=index > 0)


Layout = Rows | Windows | Lanes


def cut(documents: Documents, options: DataOptions, batch_size: int, seed: int) -> Layout:
    """The layout that the options name, over these documents."""
    layouts: dict[str, type[Layout]] = {"rows": Rows, "windows": Windows, "stream": Lanes}
    return layouts[options.layout](documents, options.context_length, batch_size, seed)
