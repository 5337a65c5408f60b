"""Encoded documents → batches, each a pure function of (documents, seed, step).

A layout defines how batches are cut from the documents. The position of a training run in its data
is one integer, the step.

Letters: B rows of a batch, T time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from textwright.config import Config, DataOptions
from textwright.models.loss import PADDING_TARGET
from textwright.training.encoded import Documents

START_ANEW = 0.01  # share of the rows of a stream that do not carry their state
LENGTH_WINDOW = 50  # batches among which rows of similar length meet


@dataclass(frozen=True)
class Batch:
    """inputs, targets (B, T) int64; a target of −100 is not counted. starts (B,) bool: rows that do
    not continue those of the batch before, whose states they would carry. stop_id: where a row may
    hold several documents, the id before each of them."""

    inputs: np.ndarray
    targets: np.ndarray
    starts: np.ndarray
    stop_id: int | None = None


def choose_layout(config: Config, documents: Documents) -> Config:
    """The layout `auto` becomes rows if at least half the documents fit the context; else the last
    one that the family names: stream, or windows for a model that cannot carry its state."""
    options = config.data
    if options.layout != "auto" or config.model.counted:
        return config
    fit = len(documents) and np.median(documents.lengths) <= options.context_length
    data = options.model_copy(update={"layout": "rows" if fit else config.model.layouts[-1]})
    return config.model_copy(update={"data": data})


class Rows:
    """One document a row, cut to the context and padded to the longest of its batch.

    Documents are shuffled anew each epoch. Inside windows of LENGTH_WINDOW batches, rows of
    similar length are put together, so that there is little padding.
    """

    carries = False

    def __init__(self, documents: Documents, context_length: int, batch_size: int, seed: int):
        self.documents, self.context_length = documents, context_length
        self.batch_size, self.seed = batch_size, seed
        self.steps_per_epoch = -(-len(documents) // batch_size)
        self.order = lru_cache(maxsize=1)(self._shuffle)

    def batch(self, step: int, share: int = 0, shares: int = 1) -> Batch:
        """The rows of a step, or one share of them where several processes divide them."""
        epoch, index = divmod(step, self.steps_per_epoch)
        chosen = self.order(epoch)[index][share::shares]
        rows = [self.documents.row(document, self.context_length) for document in chosen]
        width = max(map(len, rows), default=2) - 1
        inputs = np.full((len(rows), width), self.documents.stop_id, dtype=np.int64)
        targets = np.full((len(rows), width), PADDING_TARGET, dtype=np.int64)
        for at, row in enumerate(rows):
            inputs[at, : len(row) - 1] = row[:-1]
            targets[at, : len(row) - 1] = row[1:]
        return Batch(inputs, targets, np.ones(len(rows), bool))

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
        """Read `count` ids from a place in the epoch's text, going round at its end."""
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
    """Rows of exactly T tokens from anywhere, across document ends; cut elsewhere each epoch."""

    carries = False

    def __init__(self, documents: Documents, context_length: int, batch_size: int, seed: int):
        self.stream, self.seed = CircularText(documents, seed), seed
        self.context_length, self.batch_size = context_length, batch_size
        self.count = -(-self.stream.length // context_length)
        self.steps_per_epoch = -(-self.count // batch_size)
        self.order = lru_cache(maxsize=1)(self._shuffle)

    def batch(self, step: int, share: int = 0, shares: int = 1) -> Batch:
        epoch, index = divmod(step, self.steps_per_epoch)
        first, order = self.order(epoch)
        windows = order[index * self.batch_size :][: self.batch_size][share::shares]
        width = self.context_length
        rows = [self.stream.read(epoch, first + w * width, width + 1) for w in windows.tolist()]
        ids = np.stack(rows) if rows else np.empty((0, width + 1), dtype=np.int64)
        starts, stop_id = np.ones(len(ids), bool), self.stream.documents.stop_id
        return Batch(ids[:, :-1], ids[:, 1:], starts, stop_id)

    def _shuffle(self, epoch: int) -> tuple[int, np.ndarray]:
        random = np.random.default_rng((self.seed, epoch, 1))
        return int(random.integers(self.stream.length)), random.permutation(self.count)


class Lanes:
    """B readers at equal distances in one continuous text; each batch continues the one before.

    The state is carried from batch to batch, and starts anew with each epoch's order. One row in
    some also starts anew, as every text does that is written or scored: a model that has never done
    so begins badly, and sometimes never recovers (Melis, Dyer & Blunsom 2018 do the same).
    """

    carries = True

    def __init__(self, documents: Documents, context_length: int, batch_size: int, seed: int):
        self.stream, self.seed = CircularText(documents, seed), seed
        self.context_length, self.batch_size = context_length, batch_size
        self.lane = -(-self.stream.length // batch_size)  # ids that one reader reads in an epoch
        self.steps_per_epoch = -(-self.lane // context_length)

    def batch(self, step: int, share: int = 0, shares: int = 1) -> Batch:
        epoch, index = divmod(step, self.steps_per_epoch)
        start = index * self.context_length
        width = min(self.context_length, self.lane - start)
        lanes = range(self.batch_size)[share::shares]
        rows = [self.stream.read(epoch, b * self.lane + start, width + 1) for b in lanes]
        ids = np.stack(rows) if rows else np.empty((0, width + 1), dtype=np.int64)
        random = np.random.default_rng((self.seed, epoch, index))
        starts = random.random(self.batch_size) < (START_ANEW if index else 1)
        return Batch(ids[:, :-1], ids[:, 1:], starts[share::shares])


Layout = Rows | Windows | Lanes


def cut(documents: Documents, options: DataOptions, batch_size: int, seed: int) -> Layout:
    """The layout that the options name, over these documents."""
    layouts: dict[str, type[Layout]] = {"rows": Rows, "windows": Windows, "stream": Lanes}
    return layouts[options.layout](documents, options.context_length, batch_size, seed)
