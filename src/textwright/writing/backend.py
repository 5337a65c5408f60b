"""What writing needs of a model, and how far back a model looks.

Letters: B rows that run together, T time, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray


class BackendState(Protocol):
    """What a backend remembers of the rows that it has read."""

    @property
    def lengths(self) -> Any: ...  # (B,) ids read so far
    def select(self, rows: Any) -> Self: ...  # these rows, in this order, repeats allowed
    @classmethod
    def concat(cls, states: Sequence[Self]) -> Self: ...


class Backend(Protocol):
    """A model that reads ids and predicts the next one: NumPy in, NumPy out.

    Where memory runs out, it and its states raise MemoryError.
    """

    context_length: int | None  # the most ids it can look at; None: no limit

    def prefill(
        self, ids: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], BackendState]:
        """Read rows: ids (B, T) padded on the right, lengths (B,) → logits (B, V), state."""

    def step(self, ids: NDArray[np.int64], state: Any) -> tuple[NDArray[np.float32], BackendState]:
        """Read one more id of each row: ids (B,) → logits (B, V), state."""

    def follow(
        self, ids: NDArray[np.int64], state: Any
    ) -> tuple[NDArray[np.float32], BackendState]:
        """Read T more ids of each row: ids (B, T) → logits after each (B, T, V), state."""


def looks_back(backend: Backend) -> int | None:
    """The most ids that a backend can look at, or the neural model of a mixture; None: no limit."""
    neural: Backend = getattr(backend, "neural", backend)
    return neural.context_length


def lacking(backend: Backend) -> list[int]:
    """The ids that a model's training text never has, as far as it knows, ascending."""
    never: list[int] = getattr(backend, "lacking", [])
    return never


def window_start(count: int, context_length: int | None) -> int:
    """Where the model's view of a row begins, when `count` ids precede the one it predicts.

    It sees ids[start:count], where ids[0] is the stop id that begins the row. When one more would
    be too many, it keeps the newest half and goes on from there. A long prompt is seen as if it had
    been written, so the start depends on the count alone, with a cache or without.
    """
    if context_length is None or count <= context_length:
        return 0
    half = max(1, context_length // 2)
    room = context_length + 1 - half  # ids from one full context to the next
    return (1 + (count - context_length - 1) // room) * room


def windows_of(count: int, context_length: int | None) -> Iterator[tuple[int, int, int]]:
    """(start, first, end): of a row's `count` targets, those from first to end are predicted from
    ids[start:], where ids[0] is the stop id that begins the row."""
    first = 0
    while first < count:
        start = window_start(first + 1, context_length)
        end = count if context_length is None else min(count, start + context_length)
        yield start, first, end
        first = end


def moves(count: int, context_length: int | None) -> bool:
    """Whether the view of a row that has grown to `count` ids begins elsewhere than before."""
    return window_start(count, context_length) != window_start(count - 1, context_length)


def padded(
    rows: Sequence[NDArray[np.int64]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows as `Backend.prefill` takes them: ids (B, T) padded on the right, lengths (B,)."""
    lengths = np.array([len(row) for row in rows], np.int64)
    ids = np.zeros((len(rows), lengths.max()), np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
    return ids, lengths


def visible(
    ids: Sequence[int], stop_id: int, context_length: int | None
) -> NDArray[np.int64]:  # (T,)
    """The ids that the model sees of a text: the stop id and all, or the newest that fit."""
    start = window_start(1 + len(ids), context_length)
    return np.array(ids[start - 1 :] if start else [stop_id, *ids], np.int64)
