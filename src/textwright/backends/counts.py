"""Counts as a backend, alone or beside a neural model.

Letters: B rows that run together, T time, V vocabulary, n the order of the counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from textwright.counts.kneser_ney import KneserNey
from textwright.counts.mixture import mix
from textwright.families import NGramOptions
from textwright.run import Run
from textwright.writing.backend import Backend, BackendState
from textwright.writing.sampling_steps import log_probabilities

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class CountsState:
    """contexts (B, n − 1): see `KneserNey.begin` · lengths (B,): ids read so far."""

    contexts: Ids
    lengths: Ids

    def select(self, rows: Any) -> Self:
        rows = np.asarray(rows, np.int64)
        return type(self)(self.contexts[rows], self.lengths[rows])

    @classmethod
    def concat(cls, states: Sequence[Self]) -> Self:
        return cls(
            np.concatenate([state.contexts for state in states]),
            np.concatenate([state.lengths for state in states]),
        )

    @property
    def nbytes(self) -> int:
        return self.contexts.nbytes


class CountsBackend:
    """An n-gram model. Its logits are log-probabilities."""

    context_length: int | None = None  # no limit

    def __init__(self, counts: KneserNey):
        self.counts = counts

    def prefill(self, ids: Ids, lengths: Ids) -> tuple[Logits, CountsState]:
        state = self.read(ids, lengths)
        return self._logits(state), state

    def step(self, ids: Ids, state: CountsState) -> tuple[Logits, CountsState]:
        state = self.follow(ids, state)
        return self._logits(state), state

    def read(self, ids: Ids, lengths: Ids) -> CountsState:
        """The state after rows: ids (B, T) padded on the right, lengths (B,)."""
        contexts = self.counts.begin(len(ids))
        for back in range(self.counts.order - 1, 0, -1):
            rows = np.flatnonzero(lengths >= back)
            contexts[rows] = self.counts.read(contexts[rows], ids[rows, lengths[rows] - back])
        return CountsState(contexts, np.asarray(lengths, np.int64))

    def follow(self, ids: Ids, state: CountsState) -> CountsState:
        """The state after one more id of each row."""
        return CountsState(self.counts.read(state.contexts, ids), state.lengths + 1)

    def _logits(self, state: CountsState) -> Logits:
        return np.log(self.counts.distribution(state.contexts)).astype(np.float32)


@dataclass(frozen=True)
class MixedState:
    """What each of the two remembers."""

    neural: Any
    counts: CountsState

    def select(self, rows: Any) -> Self:
        return type(self)(self.neural.select(rows), self.counts.select(rows))

    @classmethod
    def concat(cls, states: Sequence[Self]) -> Self:
        neural = [state.neural for state in states]
        return cls(
            type(neural[0]).concat(neural), CountsState.concat([state.counts for state in states])
        )

    @property
    def lengths(self) -> Any:
        return self.neural.lengths

    @property
    def nbytes(self) -> int:
        return int(self.neural.nbytes) + self.counts.nbytes


class MixedBackend:
    """A neural backend with counts beside it. Its logits are log-probabilities."""

    def __init__(self, neural: Backend, counts: KneserNey, share: float):
        """share: of the counts; see `counts.mixture`."""
        self.neural, self.counts, self.share = neural, CountsBackend(counts), share
        self.context_length = neural.context_length

    def prefill(self, ids: Ids, lengths: Ids) -> tuple[Logits, MixedState]:
        logits, neural = self.neural.prefill(ids, lengths)
        return self._mixed(logits, neural, self.counts.read(ids, lengths))

    def step(self, ids: Ids, state: MixedState) -> tuple[Logits, MixedState]:
        logits, neural = self.neural.step(ids, state.neural)
        return self._mixed(logits, neural, self.counts.follow(ids, state.counts))

    def _mixed(
        self, logits: Logits, neural: BackendState, state: CountsState
    ) -> tuple[Logits, MixedState]:
        counted = self.counts.counts.distribution(state.contexts)
        p = mix(np.exp(log_probabilities(logits)), counted, self.share)
        return np.log(p).astype(np.float32), MixedState(neural, state)


def open_backend(weights: Mapping[str, np.ndarray], options: NGramOptions) -> CountsBackend:
    """The backend of an n-gram run's arrays; the options add nothing to them."""
    return CountsBackend(KneserNey.from_arrays(weights))


def with_counts(neural: Backend, run: Run) -> Backend:
    """The backend of a neural run, with the run's counts beside it if it has any."""
    counts = run.counts
    return neural if counts is None else MixedBackend(neural, counts, run.share())
