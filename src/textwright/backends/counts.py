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
from textwright.counts.memory import recall
from textwright.counts.mixture import Mixture, Parts
from textwright.families import NGramOptions
from textwright.run import Run
from textwright.writing.backend import Backend, moves, padded, window_start
from textwright.writing.sampling_steps import log_probabilities

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
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
        """ids (B, T) padded on the right, lengths (B,) → logits (B, V), state."""
        contexts = self.counts.begin(len(ids))
        for back in range(self.counts.order - 1, 0, -1):
            rows = np.flatnonzero(lengths >= back)
            contexts[rows] = self.counts.read(contexts[rows], ids[rows, lengths[rows] - back])
        return self._predicted(CountsState(contexts, np.asarray(lengths, np.int64)))

    def step(self, ids: Ids, state: CountsState) -> tuple[Logits, CountsState]:
        """Read one more id of each row: ids (B,) → logits (B, V), state."""
        contexts = self.counts.read(state.contexts, ids)
        return self._predicted(CountsState(contexts, state.lengths + 1))

    def _predicted(self, state: CountsState) -> tuple[Logits, CountsState]:
        return np.log(self.counts.distribution(state.contexts)).astype(np.float32), state


@dataclass(frozen=True)
class ReadText:
    """All ids that were read of a row, in an array that longer texts share, with room to grow.

    A text that another has already continued is copied before it is continued again.
    """

    buffer: Ids
    length: int
    written: list[int]  # ids in the buffer, by any of the texts that share it

    @classmethod
    def of(cls, ids: Ids) -> Self:
        return cls(ids, len(ids), [len(ids)])

    @property
    def ids(self) -> Ids:
        return self.buffer[: self.length]

    def append(self, token: int) -> Self:
        """The text with one more id."""
        buffer, written = self.buffer, self.written
        if written[0] != self.length or self.length == len(buffer):
            buffer = np.empty(2 * self.length, np.int64)
            buffer[: self.length] = self.ids
            written = [self.length]
        buffer[self.length] = token
        written[0] += 1
        return type(self)(buffer, self.length + 1, written)


@dataclass(frozen=True)
class MixedState:
    """What the neural model and the counts remember, and all that was read of each row."""

    neural: Any
    counts: CountsState
    texts: list[ReadText]

    def select(self, rows: Any) -> Self:
        chosen = np.asarray(rows, np.int64).tolist()
        texts = [self.texts[row] for row in chosen]
        return type(self)(self.neural.select(rows), self.counts.select(rows), texts)

    @classmethod
    def concat(cls, states: Sequence[Self]) -> Self:
        neural = [state.neural for state in states]
        counts = CountsState.concat([state.counts for state in states])
        texts = [text for state in states for text in state.texts]
        return cls(type(neural[0]).concat(neural), counts, texts)

    @property
    def lengths(self) -> Ids:
        return self.counts.lengths

    @property
    def nbytes(self) -> int:
        return int(self.neural.nbytes) + self.counts.nbytes + sum(8 * t.length for t in self.texts)


class MixedBackend:
    """A neural backend with counts beside it. Its logits are log-probabilities.

    The memory reaches back to the beginning of a text, so the rows come whole, and where the neural
    model can look back on less, it is given the newest part here.
    """

    context_length: int | None = None  # no limit

    def __init__(self, neural: Backend, counts: KneserNey, mixture: Mixture):
        self.neural, self.counts, self.mixture = neural, CountsBackend(counts), mixture

    def prefill(self, ids: Ids, lengths: Ids) -> tuple[Logits, MixedState]:
        """ids (B, T) padded on the right, lengths (B,) → logits (B, V), state."""
        parts, state = self.read(ids, lengths)
        return self.mixed(parts), state

    def step(self, ids: Ids, state: MixedState) -> tuple[Logits, MixedState]:
        """Read one more id of each row: ids (B,) → logits (B, V), state."""
        parts, after = self.read_on(ids, state)
        return self.mixed(parts), after

    def read(self, ids: Ids, lengths: Ids) -> tuple[Parts, MixedState]:
        """As `prefill`, with the parts by themselves."""
        texts = [row[:length] for row, length in zip(ids, lengths, strict=True)]
        whole = [ReadText.of(text) for text in texts]
        return self._parts(self._neural_read(texts), self.counts.prefill(ids, lengths), whole)

    def read_on(self, ids: Ids, state: MixedState) -> tuple[Parts, MixedState]:
        """As `step`, with the parts by themselves."""
        new = zip(state.texts, ids.tolist(), strict=True)
        texts = [text.append(token) for text, token in new]
        neural = self._neural_step(ids, state.neural, [text.ids for text in texts])
        return self._parts(neural, self.counts.step(ids, state.counts), texts)

    def _neural_read(self, texts: list[Ids]) -> tuple[Logits, Any]:
        limit = self.neural.context_length
        seen = [text[window_start(len(text), limit) :] for text in texts]
        return self.neural.prefill(*padded(seen))

    def _neural_step(self, ids: Ids, state: Any, texts: list[Ids]) -> tuple[Logits, Any]:
        """Rows whose context is full are read again from their newest half."""
        limit = self.neural.context_length
        full = [row for row, text in enumerate(texts) if moves(len(text), limit)]
        if not full:
            return self.neural.step(ids, state)
        going = [row for row in range(len(texts)) if row not in full]
        logits, after = self._neural_read([texts[row] for row in full])
        if going:
            others, state = self.neural.step(ids[going], state.select(going))
            logits = np.concatenate([logits, others])
            after = type(after).concat([after, state])
        back = np.argsort(full + going)
        return logits[back], after.select(back.tolist())

    def _parts(
        self, neural: tuple[Logits, Any], counts: tuple[Logits, CountsState], texts: list[ReadText]
    ) -> tuple[Parts, MixedState]:
        (logits, neural_state), (counted, counts_state) = neural, counts
        by_counts = np.exp(counted.astype(np.float64))
        known = self.counts.counts.evidence(counts_state.contexts)
        recalled = [recall(text.ids, base) for text, base in zip(texts, by_counts, strict=True)]
        by_memory, remembered = map(np.stack, zip(*recalled, strict=True))
        evidence = np.concatenate([known, remembered], 1)
        by_neural = np.exp(log_probabilities(logits))
        parts = Parts(by_neural, by_counts, by_memory, evidence)
        return parts, MixedState(neural_state, counts_state, texts)

    def mixed(self, parts: Parts) -> Logits:
        """The logits (B, V) of the mixture of these parts."""
        return np.log(self.mixture.mix(parts)).astype(np.float32)


def open_backend(weights: Mapping[str, np.ndarray], options: NGramOptions) -> CountsBackend:
    """The backend of an n-gram run's arrays; the options add nothing to them."""
    return CountsBackend(KneserNey.from_arrays(weights))


def with_counts(backend: Backend, run: Run) -> Backend:
    """The backend of a run, with counts beside it if it is neural and has any."""
    counts = None if run.config.model.counted else run.counts
    return backend if counts is None else MixedBackend(backend, counts, run.mixture())
