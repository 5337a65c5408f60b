"""How much each token of a text surprises a model, and what the model expected instead."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textwright.backends.counts import MixedBackend
from textwright.counts.mixture import Parts
from textwright.inspection.next_tokens import (
    Candidate,
    Token,
    begin,
    check_temperatures,
    likeliest,
    name_tokens,
    part_odds,
)
from textwright.progress import OnProgress, silent
from textwright.writing.backend import Backend, visible, windows_of
from textwright.writing.generator import Generator
from textwright.writing.sampling_steps import log_probabilities

Ids = NDArray[np.int64]

LOGITS = 1 << 18  # of a block that is read at once; a mixture holds four numbers for each


@dataclass(frozen=True)
class Surprisal(Token):
    """A token of a text, and the distribution that it was drawn from.

    nats: −log p of the token (Shannon 1948) · rank: 1 for the likeliest, one more for each token
    that is likelier · entropy: nats, by temperature · next: the likeliest tokens in its place, by
    temperature · neural, counts, memory: its probability in each part of a mixture; None where the
    model is no mixture.
    """

    nats: float
    rank: int
    entropy: dict[float, float]
    next: dict[float, list[Candidate]]
    neural: float | None = None
    counts: float | None = None
    memory: float | None = None

    @property
    def bits(self) -> float:
        return self.nats / math.log(2)

    @property
    def likelier(self) -> list[Candidate]:
        """The likeliest tokens up to this one, at the first temperature."""
        return next(iter(self.next.values()))[: self.rank - 1]


def surprisals(
    generator: Generator,
    text: str,
    temperatures: Sequence[float] = (1.0,),
    top: int = 5,
    on_progress: OnProgress = silent,
) -> list[Surprisal]:
    """Every token of a text with its surprisal, from left to right as if it were being written.

    Nothing is said of what may come after the text: see `next_tokens`. on_progress: called with
    tokens done and in all. Raises GenerationError if a temperature is not above 0.
    """
    check_temperatures(temperatures)
    tokenizer = generator.tokenizer
    ids = tokenizer.encode(text).tolist()
    found = []
    predicted = _predictions(generator.backend, ids, tokenizer.stop_id)
    for token, (logits, parts) in zip(name_tokens(tokenizer, ids), predicted, strict=True):
        logp = log_probabilities(logits)
        entropy, tables = likeliest(tokenizer, logits, parts, temperatures, top)
        found.append(
            Surprisal(
                **vars(token),
                nats=float(-logp[token.id]),
                rank=1 + int((logp > logp[token.id]).sum()),
                entropy=entropy,
                next=tables,
                **part_odds(parts, token.id),
            )
        )
        on_progress(len(found), len(ids))
    return found


def _predictions(
    backend: Backend, ids: list[int], stop_id: int
) -> Iterator[tuple[NDArray[np.float32], Parts | None]]:
    """The logits (V,) that predict each of the ids; of a mixture, also what each part predicts.

    A window of the text is read a block at a time, which gives what reading token by token does.
    """
    for _, first, end in windows_of(len(ids), backend.context_length):
        row = visible(ids[:first], stop_id, backend.context_length)
        logits, parts, state = begin(backend, row)
        block = max(1, LOGITS // logits.shape[1])
        while True:
            for place, own in enumerate(logits):
                yield own, parts and parts.at(place)
            first += len(logits)  # the next that is predicted
            if first >= end:
                break
            read = np.array([ids[first - 1 : min(end, first + block) - 1]], np.int64)
            logits, parts, state = _read_on(backend, read, state)


def _read_on(
    backend: Backend, ids: Ids, state: Any
) -> tuple[NDArray[np.float32], Parts | None, Any]:
    """Read more ids (1, T) → logits (T, V), parts, state."""
    if isinstance(backend, MixedBackend):
        parts, state = backend.read_on(ids, state)
        return backend.mixed(parts), parts, state
    logits, state = backend.follow(ids, state)
    return logits[0], None, state
