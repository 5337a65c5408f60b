"""Counts as a backend, alone or beside a neural model.

Letters: B rows that run together, T time, V vocabulary, n the order of the counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from textwright.counts.kneser_ney import KneserNey
from textwright.counts.memory import recall
from textwright.counts.mixture import Mixture, Parts, agree
from textwright.counts.powered import PoweredCounts
from textwright.families import NGramOptions
from textwright.run import Run
from textwright.writing.backend import Backend, moves, padded, window_start
from textwright.writing.sampling_steps import Ids, Logits


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


class CountsBackend:
    """An n-gram model. Its logits are log-probabilities."""

    context_length: int | None = None  # no limit

    def __init__(self, counts: KneserNey):
        self.counts, self.lacking = counts, counts.lacking

    def prefill(self, ids: Ids, lengths: Ids) -> tuple[Logits, CountsState]:
        """ids (B, T) padded on the right, lengths (B,) → logits (B, V), state."""
        state = self.read(ids, lengths)
        return self._predicted(state.contexts), state

    def step(self, ids: Ids, state: CountsState) -> tuple[Logits, CountsState]:
        """Read one more id of each row: ids (B,) → logits (B, V), state."""
        contexts, state = self.read_on(ids[:, None], state)
        return self._predicted(contexts[:, 0]), state

    def follow(self, ids: Ids, state: CountsState) -> tuple[Logits, CountsState]:
        """Read more ids of each row: ids (B, T) → logits after each (B, T, V), state."""
        contexts, state = self.read_on(ids, state)
        logits = self._predicted(contexts.reshape(ids.size, -1))
        return logits.reshape(*ids.shape, -1), state

    def read(self, ids: Ids, lengths: Ids) -> CountsState:
        """The state after rows; ids (B, T) padded on the right, lengths (B,)."""
        contexts = self.counts.begin(len(ids))
        for back in range(self.counts.order - 1, 0, -1):
            rows = np.flatnonzero(lengths >= back)
            contexts[rows] = self.counts.read(contexts[rows], ids[rows, lengths[rows] - back])
        return CountsState(contexts, np.asarray(lengths, np.int64))

    def read_on(self, ids: Ids, state: CountsState) -> tuple[Ids, CountsState]:
        """The contexts after each of more ids (B, T), as (B, T, n − 1), and the state after all."""
        contexts = [state.contexts]
        for new in ids.T:
            contexts.append(self.counts.read(contexts[-1], new))
        return np.stack(contexts[1:], 1), CountsState(contexts[-1], state.lengths + ids.shape[1])

    def _predicted(self, contexts: Ids) -> Logits:
        return np.log(self.counts.distribution(contexts)).astype(np.float32)


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


class MixedBackend:
    """A neural backend with counts beside it. Its logits are log-probabilities.

    The memory reaches back to the beginning of a text, so the rows come whole, and where the neural
    model can look back on less, it is given the newest part here.
    """

    context_length: int | None = None  # no limit

    def __init__(self, neural: Backend, powered: PoweredCounts, mixture: Mixture):
        """powered: with the mixture's power."""
        self.neural, self.mixture = neural, mixture
        self.counts, self._powered = CountsBackend(powered.counts), powered
        self.lacking = self.counts.lacking

    def prefill(self, ids: Ids, lengths: Ids) -> tuple[Logits, MixedState]:
        """ids (B, T) padded on the right, lengths (B,) → logits (B, V), state."""
        parts, state = self.read(ids, lengths)
        return self.mixed(parts), state

    def step(self, ids: Ids, state: MixedState) -> tuple[Logits, MixedState]:
        """Read one more id of each row: ids (B,) → logits (B, V), state."""
        parts, after = self.read_on(ids[:, None], state)
        return self.mixed(parts), after

    def follow(self, ids: Ids, state: MixedState) -> tuple[Logits, MixedState]:
        """Read more ids of each row: ids (B, T) → logits after each (B, T, V), state."""
        parts, after = self.read_on(ids, state)
        return self.mixed(parts).reshape(*ids.shape, -1), after

    def read(self, ids: Ids, lengths: Ids) -> tuple[Parts, MixedState]:
        """As `prefill`, with the parts by themselves."""
        texts = [row[:length] for row, length in zip(ids, lengths, strict=True)]
        logits, neural = self._neural_read(texts)
        counts = self.counts.read(ids, lengths)
        state = MixedState(neural, counts, [ReadText.of(text) for text in texts])
        return self._parts(logits, counts.contexts, texts), state

    def read_on(self, ids: Ids, state: MixedState) -> tuple[Parts, MixedState]:
        """As `follow`, with the parts by themselves, of all places in a line (B · T, V)."""
        grown = [state.texts]  # the texts after each id
        for new in ids.T.tolist():
            grown.append([text.append(token) for text, token in zip(grown[-1], new, strict=True)])
        seen = [[text.ids for text in texts] for texts in grown[1:]]
        logits, neural = self._neural_read_on(ids, state.neural, seen)
        contexts, counts = self.counts.read_on(ids, state.counts)
        in_line = [text for of_row in zip(*seen, strict=True) for text in of_row]
        flat = logits.reshape(ids.size, -1), contexts.reshape(ids.size, -1)
        return self._parts(*flat, in_line), MixedState(neural, counts, grown[-1])

    def _neural_read_on(self, ids: Ids, state: Any, seen: list[list[Ids]]) -> tuple[Logits, Any]:
        """Logits after each id (B, T, V), the state; seen: what each row has read after each.

        Up to where a context is full, all are read at once. There, the rows whose context is full
        are read again from their newest half.
        """
        limit = self.neural.context_length
        full = [
            [row for row, text in enumerate(texts) if moves(len(text), limit)] for texts in seen
        ]
        found: list[Logits] = []
        begin, count = 0, len(full)
        while begin < count:
            end = begin + 1
            if rows := full[begin]:
                logits, again = self._neural_read([seen[begin][row] for row in rows])
                going = [row for row in range(len(ids)) if row not in rows]
                if going:
                    on, others = self.neural.step(ids[going, begin], state.select(going))
                    logits = np.concatenate([logits, on])
                    again = type(again).concat([again, others])
                back = np.argsort(rows + going)
                logits, state = logits[back, None], again.select(back)
            elif count == 1:
                logits, state = self.neural.step(ids[:, 0], state)
                logits = logits[:, None]
            else:
                while end < count and not full[end]:
                    end += 1
                logits, state = self.neural.follow(ids[:, begin:end], state)
            found.append(logits)
            begin = end
        return np.concatenate(found, 1), state

    def _neural_read(self, texts: list[Ids]) -> tuple[Logits, Any]:
        limit = self.neural.context_length
        seen = [text[window_start(len(text), limit) :] for text in texts]
        return self.neural.prefill(*padded(seen))

    def _parts(self, logits: Logits, contexts: Ids, texts: list[Ids]) -> Parts:
        """The parts after texts (N), given logits (N, V) and contexts (N, n − 1)."""
        rows, size = logits.shape
        chances = np.empty((rows, 3, size), np.float32)
        neural, counts, memory = np.moveaxis(chances, 1, 0)
        self._powered.predict(contexts, memory, counts)  # the memory begins with the corpus' counts
        shifted = logits - logits.max(1, keepdims=True)
        agree(shifted, counts, self.mixture.powers[0])
        np.exp(shifted, out=neural)
        neural /= neural.sum(1, keepdims=True)
        remembered = [recall(text, p) for text, p in zip(texts, memory, strict=True)]
        evidence = np.concatenate([self.counts.counts.evidence(contexts), remembered], 1)
        return Parts(chances, evidence)

    def mixed(self, parts: Parts) -> Logits:
        """The logits (B, V) of the mixture of these parts."""
        mixed = self.mixture.mix(parts)
        return np.log(mixed, out=mixed)


def open_backend(weights: Mapping[str, np.ndarray], options: NGramOptions) -> CountsBackend:
    """The backend of an n-gram run's arrays; the options add nothing to them."""
    return CountsBackend(KneserNey.from_arrays(weights))


def with_counts(backend: Backend, run: Run) -> Backend:
    """The backend of a run, with counts beside it if it is neural and has any."""
    counts = None if run.config.model.counted else run.counts
    if counts is None:
        return backend
    mixture = run.mixture()
    return MixedBackend(backend, PoweredCounts(counts, mixture.powers[1]), mixture)
