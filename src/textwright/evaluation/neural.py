"""What a neural model charges for each token of documents, many of which it reads together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from textwright.compute.memory import memory_errors
from textwright.errors import EvaluationError
from textwright.models import LanguageModel
from textwright.progress import OnProgress, silent
from textwright.writing.backend import windows_of

ROWS_AT_A_TIME = 64
TOKENS_AT_A_TIME = 256  # of each row; limits memory for documents of any length
TOKENS_KEPT = 16_384  # of all rows, if the state grows with each token: 1.2 GB for GPT-2 small

Judgment = Callable[[Tensor, Tensor, np.ndarray], Tensor]
"""Hidden vectors (N, D), the targets after them (N,), and the places (N,) of these among the
targets of all rows in a line → what is said of each target (N, K)."""


def score(
    model: LanguageModel,
    rows: list[np.ndarray],
    on_progress: OnProgress = silent,
) -> list[np.ndarray]:
    """Nats of every target of every row (row[1:]), each predicted from all that the model can look
    back on, in float32 on every device; for what else, see `judge`."""

    def nats(hidden: Tensor, targets: Tensor, places: np.ndarray) -> Tensor:
        return model.token_nats(hidden, targets)[:, None]

    return [found[:, 0] for found in judge(model, rows, nats, 1, on_progress)]


@torch.no_grad()
def judge(
    model: LanguageModel,
    rows: list[np.ndarray],
    judgment: Judgment,
    count: int,
    on_progress: OnProgress = silent,
) -> list[np.ndarray]:
    """What is said of every target of every row (T, count), with the model in evaluation mode.

    on_progress: called with targets done and in all. Fewer rows are read together if memory runs
    out. Raises EvaluationError if one is too many.
    """
    windows = cut_windows(rows, model.context_length)
    ends = np.cumsum([len(row) - 1 for row in rows])
    found = np.empty((ends[-1], count))
    done = 0
    training = model.training
    model.eval()
    try:
        most = ROWS_AT_A_TIME
        while windows:
            together = min(most, len(windows))
            if model.context_length is not None:
                together = max(1, min(together, TOKENS_KEPT // len(windows[0].ids)))
            on_judged = partial(_add, on_progress, done, len(found))
            judged = _judge_group(model, windows[:together], judgment, on_judged)
            if judged is None:
                if together == 1:
                    raise EvaluationError(
                        "Memory ran out while one document was scored; free some memory, or score "
                        "with --device cpu."
                    )
                most = together // 2
                continue
            for places, values in judged:
                found[places] = values
                done += len(values)
            windows = windows[together:]
    finally:
        model.train(training)
    return np.split(found, ends[:-1])


def _add(on_progress: OnProgress, done: int, total: int, new: int) -> None:
    on_progress(done + new, total)


class Window(NamedTuple):
    """A stretch of a row that a model reads at once. place: that of its first target among all ·
    seen: how many of its targets are context only."""

    ids: np.ndarray
    place: int
    seen: int


def cut_windows(rows: list[np.ndarray], context_length: int | None) -> list[Window]:
    """The stretches of all rows in which each target is seen once (`window_start` tells where they
    begin), the longest first."""
    windows, begin = [], 0
    for row in rows:
        for start, first, end in windows_of(len(row) - 1, context_length):
            windows.append(Window(row[start : end + 1], begin + start, first - start))
        begin += len(row) - 1
    return sorted(windows, key=lambda window: -len(window.ids))


def _judge_group(
    model: LanguageModel,
    windows: list[Window],
    judgment: Judgment,
    on_judged: Callable[[int], None],
) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Judge windows together → places, and what is said of them, or None if memory runs out."""
    found, judged = [], 0
    try:
        with memory_errors():
            for places, values in _judge_in_stretches(model, windows, judgment):
                found.append((places, values))
                judged += len(values)
                on_judged(judged)
            return found
    except MemoryError:
        return None


def _judge_in_stretches(
    model: LanguageModel, windows: list[Window], judgment: Judgment
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read windows, given longest first, TOKENS_AT_A_TIME of each at once."""
    device = next(model.parameters()).device
    state = None
    longest = len(windows[0].ids) - 1
    for start in range(0, longest, TOKENS_AT_A_TIME):
        live = [window for window in windows if len(window.ids) - 1 > start]
        width = min(TOKENS_AT_A_TIME, longest - start)
        ids = np.zeros((len(live), width + 1), dtype=np.int64)
        wanted = np.zeros((len(live), width), dtype=bool)
        for at, window in enumerate(live):
            stretch = window.ids[start : start + width + 1]
            ids[at, : len(stretch)] = stretch
            wanted[at, max(0, window.seen - start) : len(stretch) - 1] = True
        if state is not None and len(state.lengths) > len(live):
            state = state.select(list(range(len(live))))
        batch, chosen = torch.from_numpy(ids).to(device), torch.from_numpy(wanted).to(device)
        hidden, state = model.encode(batch[:, :-1], state)
        first = np.array([window.place for window in live]) + start
        places = (first[:, None] + np.arange(width))[wanted]
        said = judgment(hidden[chosen], batch[:, 1:][chosen], places)
        yield places, said.cpu().double().numpy()
