"""What writing needs of a model, and how far back a model looks.

Letters: B rows that run together, T time, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray


class BackendState(Protocol):
    """What a backend remembers of the rows it has read."""

    @property
    def lengths(self) -> Any: ...  # (B,) ids read so far
    @property
    def nbytes(self) -> int: ...
    def select(self, rows: Any) -> Self: ...  # these rows, in this order, repeats allowed
    @classmethod
    def concat(cls, states: Sequence[Self]) -> Self: ...


class Backend(Protocol):
    """A model that reads ids and says what comes next: NumPy in, NumPy out."""

    context_length: int | None  # the most ids it can look at; None: no limit

    def prefill(
        self, ids: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], Any]:
        """ids (B, T) padded on the right, lengths (B,) → the logits after each row (B, V), state"""

    def step(self, ids: NDArray[np.int64], state: Any) -> tuple[NDArray[np.float32], Any]:
        """One more id a row, (B,) → logits (B, V), state."""


def window_start(count: int, context_length: int | None) -> int:
    """Where what a model sees begins, when `count` ids stand before the one it predicts.

    It sees ids[start:count], the row's first stop id being ids[0]. When one more would be too many,
    it keeps the newest half and goes on from there; a long prompt is seen as if it had been
    written, so the start follows from the count alone, cached or not.
    """
    if context_length is None or count <= context_length:
        return 0
    half = max(1, context_length // 2)
    room = context_length + 1 - half  # ids from one such moment to the next
    return (1 + (count - context_length - 1) // room) * room


def visible(
    ids: Sequence[int], stop_id: int, context_length: int | None
) -> NDArray[np.int64]:  # (T,)
    """What a model sees of a text's ids: the stop id and all of them, or the newest that fit."""
    start = window_start(1 + len(ids), context_length)
    return np.array(ids[start - 1 :] if start else [stop_id, *ids], np.int64)
