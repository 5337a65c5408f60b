"""What several rows share: tokens of the task's documents, a watch, and windows to score by."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from competitors import Found, Score, Task, score
from textwright.escape import EscapeCode
from textwright.evaluation.scores import HeldOut
from textwright.tokenizer import Tokenizer, TokenizerOptions

LOOKS = 10  # times that held-out text is looked at during a training
LOOK_TARGETS = 5_000  # targets of it that are scored each time
ESCAPE_CHARACTERS = 4_000_000  # that the escape code is fitted on, as in a run of textwright

# The nats of targets (B, T), each predicted from the inputs (B, T) up to it.
Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Encoded:
    """The task's documents as ids, by one of textwright's tokenizers.

    stream: the training documents, a stop before the first and after each · valid, test: rows of
    stop, ids, stop. What a tokenizer loses is paid for by textwright's escape code.
    """

    tokenizer: Tokenizer
    train: list[np.ndarray]
    valid: HeldOut
    test: HeldOut

    @classmethod
    def of(cls, task: Task, options: TokenizerOptions) -> "Encoded":
        """Learn the vocabulary from the training documents and encode all."""
        tokenizer = Tokenizer.train(options, task.train)
        stride = math.ceil(sum(map(len, task.train)) / ESCAPE_CHARACTERS)
        escape = EscapeCode.fit(tokenizer, task.train[::stride])
        return cls(
            tokenizer,
            [ids.astype(np.int64) for ids in tokenizer.encode_batch(task.train)],
            HeldOut.of(task.valid, tokenizer, escape),
            HeldOut.of(task.test, tokenizer, escape),
        )

    @property
    def stream(self) -> np.ndarray:
        """The ids of all training documents (N,), a stop before the first and after each."""
        stop = np.array([self.tokenizer.stop_id])
        return np.concatenate([stop, *(part for ids in self.train for part in (ids, stop))])

    def found(
        self, task: Task, nats_of: Callable[[list[np.ndarray]], list[np.ndarray]], facts: dict
    ) -> Found:
        """Score both held-out parts. nats_of: rows → nats of each of their targets."""

        def scored(documents: list[str], part: HeldOut) -> Score:
            return score(documents, nats_of(part.rows), part.places, part.escape_bits)

        return Found(scored(task.test, self.test), scored(task.valid, self.valid), facts)


class Watch:
    """Counts the seconds of a training, stopped while held-out text is looked at.

    validate: the loss to judge by · keep: a copy of the weights as they are. The best are in
    `best` at the end, so that a long budget on a small corpus does not end overfitted.
    """

    def __init__(
        self, seconds: float, validate: Callable[[], float], keep: Callable[[], Any]
    ) -> None:
        self.seconds, self.validate, self.keep = seconds, validate, keep
        self.steps = self.looks = 0
        self.best_loss, self.best_step, self.best = math.inf, 0, None
        self.looking = 0.0
        self.begun = time.perf_counter()

    @property
    def passed(self) -> float:
        """Seconds of training so far."""
        return time.perf_counter() - self.begun - self.looking

    @property
    def share(self) -> float:
        """Share of the budget that is used up, at most 1."""
        return min(1.0, self.passed / self.seconds)

    def step_done(self) -> bool:
        """Count a step, and look at held-out text if it is time → whether training is over."""
        self.steps += 1
        over = self.passed >= self.seconds
        if over or self.share * LOOKS >= self.looks + 1:
            self.final = self.passed
            begun = time.perf_counter()
            self.looks = int(self.share * LOOKS)
            loss = self.validate()
            if loss < self.best_loss or self.best is None:
                self.best_loss, self.best_step, self.best = loss, self.steps, self.keep()
            self.looking += time.perf_counter() - begun
        return over

    @property
    def facts(self) -> dict[str, Any]:
        return {"seconds": self.final, "steps": self.steps, "best_step": self.best_step}


def score_in_windows(
    measure: Measure, rows: list[np.ndarray], context: int, stride: int, batch: int = 32
) -> list[np.ndarray]:
    """Nats of every target of every row (row[1:]) by a model that reads `context` ids at once.

    Windows advance by `stride`: each target is predicted from at least context − stride ids before
    it, or from all there are.
    """
    nats = [np.empty(len(row) - 1) for row in rows]
    windows = [
        (at, start, first, end)
        for at, row in enumerate(rows)
        for start, first, end in _windows(len(row) - 1, context, stride)
    ]
    windows.sort(key=lambda window: window[1] - window[3])
    for begin in range(0, len(windows), batch):
        group = windows[begin : begin + batch]
        width = group[0][3] - group[0][1]
        ids = np.zeros((len(group), width + 1), np.int64)
        for line, (at, start, _, end) in enumerate(group):
            ids[line, : end - start + 1] = rows[at][start : end + 1]
        found = measure(ids[:, :-1], ids[:, 1:])
        for line, (at, start, first, end) in enumerate(group):
            nats[at][first:end] = found[line, first - start : end - start]
    return nats


def _windows(count: int, context: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(start, first, end): a window reads ids[start:end] for the targets from first to end."""
    end = 0
    while end < count:
        first, end = end, min(count, max(context, end + stride))
        yield max(0, end - context), first, end


def contexts_of(row: np.ndarray, length: int, filler: int) -> tuple[np.ndarray, np.ndarray]:
    """A row → the `length` ids before each of its targets (N, length), and the targets (N,).

    Contexts are filled on the left where a document has begun less than `length` ids before.
    """
    filled = np.concatenate([np.full(length - 1, filler, np.int64), row.astype(np.int64)])
    contexts = sliding_window_view(filled, length)[:-1].copy()
    return contexts, row[1:].astype(np.int64)


def beginning(rows: list[np.ndarray]) -> list[np.ndarray]:
    """Rows to look at during training: about LOOK_TARGETS targets, evenly over the rows."""
    share = min(1.0, LOOK_TARGETS / sum(len(row) - 1 for row in rows))
    if len(rows) == 1:
        return [rows[0][: int(share * (len(rows[0]) - 1)) + 1]]
    return rows[:: math.ceil(1 / share)]


def mean(nats: list[np.ndarray]) -> float:
    """Mean of all nats of all rows."""
    return float(np.concatenate(nats).mean())
