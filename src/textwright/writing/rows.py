"""The rows that a model runs together: they join, go on from what they chose, and leave.

Letters: B rows that run together, T time, V vocabulary.
"""

from array import array
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from textwright.writing.backend import Backend, moves, padded, visible


class Row:
    """One sequence of a batch: the ids of prompt number `prompt`, then those written since.

    The stop id that begins every context is not among them. Rows of an equal `group` are continued
    together.
    """

    group: Any = None

    def __init__(self, prompt: int, ids: Sequence[int]) -> None:
        self.prompt = prompt
        self.ids = array("q", ids)


_Row = TypeVar("_Row", bound=Row)
_Read = tuple[NDArray[np.float32], Any]  # logits (B, V) and the state behind them


class RunningBatch(Generic[_Row]):
    """The rows that run together, with their state, and the logits (B, V) after what was read last,
    which may be overwritten.

    Where an error is raised, the batch is as it was before.
    """

    def __init__(self, backend: Backend, stop_id: int) -> None:
        self.rows: list[_Row] = []
        self.logits: NDArray[np.float32] = np.empty((0, 0), np.float32)
        self._state: Any
        self._backend = backend
        self._stop_id = stop_id
        # The ids that were read last and the result: more texts that go on from them may wait.
        self._prompt: bytes | None = None
        self._read_last: _Read

    def admit(self, rows: list[_Row]) -> None:
        """Add rows. A prompt is read once, however many of the rows go on from it."""
        if not rows:
            return
        groups = [list(group) for _, group in groupby(rows, key=lambda row: row.ids.tobytes())]
        known = groups[0][0].ids.tobytes() == self._prompt
        reads = [self._read_last] if known else []
        if new := groups[known:]:
            reads.append(self._read([group[0] for group in new]))
        logits, state = _join(reads)
        read_last = logits[-1:].copy(), state.select([len(groups) - 1])
        if len(rows) > len(groups):
            places = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
            logits, state = logits[places], state.select(places)
        before = [(self.logits, self._state)] if self.rows else []
        self.logits, self._state = _join([*before, (logits, state)])
        self.rows = self.rows + rows
        self._prompt, self._read_last = groups[-1][0].ids.tobytes(), read_last

    def keep(self, places: list[int]) -> None:
        """Keep only the rows at these places, and their logits if those are still to be used."""
        logits = self.logits
        if len(logits) == len(self.rows):  # else the rows were replaced since: theirs are to come
            logits = logits[places]
        self.replace([self.rows[place] for place in places], places)
        self.logits = logits

    def replace(self, rows: list[_Row], places: list[int]) -> None:
        """Replace the rows; each goes on from the state of the row at its place."""
        if rows and places != list(range(len(self.rows))):
            self._state = self._state.select(places)
        self.rows = rows

    def advance(self) -> None:
        """Feed every row its newest id. A row whose context is full keeps its newest half."""
        if not self.rows:
            return
        limit = self._backend.context_length
        full = {at for at, row in enumerate(self.rows) if limit and moves(1 + len(row.ids), limit)}
        if not full:
            self.logits, self._state = self._step(self.rows, self._state)
            return
        moved = [row for place, row in enumerate(self.rows) if place in full]
        others = [place for place in range(len(self.rows)) if place not in full]
        reads, rows = [self._read(moved)], [self.rows[place] for place in others]
        if rows:
            reads.append(self._step(rows, self._state.select(others)))
        (self.logits, self._state), self.rows = _join(reads), moved + rows

    def _step(self, rows: list[_Row], state: Any) -> _Read:
        """Read the newest id of each row."""
        return self._backend.step(np.array([row.ids[-1] for row in rows], np.int64), state)

    def _read(self, rows: list[_Row]) -> _Read:
        """Prefill with all that the model sees of each row, from the stop id on."""
        limit = self._backend.context_length
        seen = [visible(row.ids, self._stop_id, limit) for row in rows]
        return self._backend.prefill(*padded(seen))


def _join(reads: Sequence[_Read]) -> _Read:
    if len(reads) == 1:
        return reads[0]
    logits = np.concatenate([read[0] for read in reads])
    states = [read[1] for read in reads]
    return logits, type(states[0]).concat(states)
