"""What a neural model charges for each token of documents, many of which it reads together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from textwright.compute.memory import memory_errors
from textwright.errors import EvaluationError
from textwright.evaluation.scores import OnProgress
from textwright.models import LanguageModel
from textwright.writing.backend import windows_of

ROWS_AT_A_TIME = 64
TOKENS_AT_A_TIME = 256  # of each row; limits memory for documents of any length
TOKENS_KEPT = 16_384  # of all rows, if the state grows with each token: 1.2 GB for GPT-2 small


@torch.no_grad()
def score(
    model: LanguageModel,
    rows: list[np.ndarray],
    on_progress: OnProgress = lambda done, total: None,
) -> list[np.ndarray]:
    """Nats of every target of every row (row[1:]), each predicted from all that the model can look
    back on, in float32 on every device.

    on_progress: called with targets done and in all. Fewer rows are read together if memory runs
    out. Raises EvaluationError if one is too many.
    """
    nats: list[np.ndarray] = [np.empty(len(row) - 1, dtype=np.float64) for row in rows]
    windows = [
        Window(index, row[start : end + 1], start, first - start)
        for index, row in enumerate(rows)
        for start, first, end in windows_of(len(row) - 1, model.context_length)
    ]
    windows.sort(key=lambda window: -len(window.ids))
    done, total = 0, sum(map(len, nats))
    training = model.training
    model.eval()
    try:
        most = ROWS_AT_A_TIME
        while windows:
            count = min(most, len(windows))
            if model.context_length is not None:
                count = max(1, min(count, TOKENS_KEPT // len(windows[0].ids)))
            on_scored = partial(_add, on_progress, done, total)
            found = _score_group(model, windows[:count], on_scored)
            if found is None:
                if count == 1:
                    raise EvaluationError(
                        "Memory ran out while one document was scored; free some memory, or score "
                        "with --device cpu."
                    )
                most = count // 2
                continue
            for window, place, values in found:
                begin = window.start + place
                nats[window.row][begin : begin + len(values)] = values
                done += len(values)
            windows = windows[count:]
    finally:
        model.train(training)
    return nats


def _add(on_progress: OnProgress, done: int, total: int, new: int) -> None:
    on_progress(done + new, total)


class Window(NamedTuple):
    """A stretch of a row that a model reads at once. The first `seen` targets are context only."""

    row: int
    ids: np.ndarray
    start: int
    seen: int


def _score_group(
    model: LanguageModel, windows: list[Window], on_scored: Callable[[int], None]
) -> list[tuple[Window, int, np.ndarray]] | None:
    """Score windows together → (window, place, nats from there), or None if memory runs out."""
    found, scored = [], 0
    try:
        with memory_errors():
            for window, place, values in _score_in_stretches(model, windows):
                found.append((window, place, values))
                scored += len(values)
                on_scored(scored)
            return found
    except MemoryError:
        return None


def _score_in_stretches(
    model: LanguageModel, windows: list[Window]
) -> Iterator[tuple[Window, int, np.ndarray]]:
    """Read windows, given longest first, TOKENS_AT_A_TIME of each at once."""
    device = next(model.parameters()).device
    state = None
    longest = len(windows[0].ids) - 1
    for start in range(0, longest, TOKENS_AT_A_TIME):
        live = [window for window in windows if len(window.ids) - 1 > start]
        width = min(TOKENS_AT_A_TIME, longest - start)
        ids = np.zeros((len(live), width + 1), dtype=np.int64)
        spans = []
        for at, window in enumerate(live):
            count = min(width, len(window.ids) - 1 - start)
            ids[at, : count + 1] = window.ids[start : start + count + 1]
            spans.append((min(max(0, window.seen - start), count), count))
        batch = torch.from_numpy(ids).to(device)
        begins, ends = torch.tensor(spans, device=device).T[:, :, None]
        places = torch.arange(width, device=device)
        wanted = (places >= begins) & (places < ends)
        if state is not None and len(state.lengths) > len(live):
            state = state.select(list(range(len(live))))
        hidden, state = model.encode(batch[:, :-1], state)
        flat = model.token_nats(hidden[wanted], batch[:, 1:][wanted]).cpu().double().numpy()
        lengths = [end - begin for begin, end in spans]
        for window, (begin, _), values in zip(
            live, spans, np.split(flat, np.cumsum(lengths)[:-1]), strict=True
        ):
            yield window, start + begin, values
