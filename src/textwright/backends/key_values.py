"""Keys and values of the ids that a NumPy GPT has read, in slots, so that rows come and go.

Letters: B rows, S slots, G key-value heads, C columns (one per id), K key width, U value width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from textwright.backends.weights import Floats, Ids

_ROOM = 64  # columns of a store that grows; for fewer, it would have to grow again and again


class _Store:
    """Keys and values of many rows, each in a slot of its own, one column per id from the left.

    A slot is free when no state names it any more, so rows come and go without a copy of others.
    """

    def __init__(self, layers: list[tuple[Floats, Floats]], ends: Ids) -> None:
        self.layers = layers  # keys (slots, G, room, K), values (slots, G, room, U)
        self.ends = ends  # (slots,) columns written by any of the states that share a slot
        self.free: list[int] = []

    def reserve(self, count: int, columns: int) -> None:
        """Make sure of so many free slots, and room for so many columns."""
        slots, _, room, _ = self.layers[0][0].shape
        lacking = count - len(self.free)
        if lacking <= 0 and columns <= room:
            return
        more = slots if lacking > 0 and lacking < slots else max(0, lacking)
        room = room if columns <= room else max(2 * room, columns, _ROOM)

        def larger(array: Floats) -> Floats:
            shape = (slots + more, array.shape[1], room, array.shape[3])
            copied = np.zeros(shape, np.float32)
            copied[:slots, :, : array.shape[2]] = array
            return copied

        self.layers = [(larger(keys), larger(values)) for keys, values in self.layers]
        self.ends = np.append(self.ends, np.zeros(more, np.int64))
        self.free += range(slots, slots + more)

    def take(self, source: _Store, slots: Ids, lengths: Ids) -> list[_Lease]:
        """Copy rows of a store, which may be this one, to free slots of this one."""
        longest = int(lengths.max())
        self.reserve(len(slots), longest)
        self.free.sort(reverse=True)
        leases = [_Lease(self, self.free.pop()) for _ in slots]
        new = [lease.slot for lease in leases]
        for ours, theirs in zip(self.layers, source.layers, strict=True):
            for own, other in zip(ours, theirs, strict=True):
                own[new, :, :longest] = other[slots, :, :longest]
        self.ends[new] = lengths
        return leases


class _Lease:
    """A slot that some state names."""

    __slots__ = ("slot", "store")

    def __init__(self, store: _Store, slot: int) -> None:
        self.store, self.slot = store, slot

    def __del__(self) -> None:
        self.store.free.append(self.slot)


class _Rows:
    """Which slots the rows of a state have. States that follow each other share it."""

    def __init__(self, leases: list[_Lease]) -> None:
        self.leases = leases
        self.slots = np.array([lease.slot for lease in leases], np.int64)
        self.first = np.zeros(len(leases), bool)  # (B,): no row before it has the same slot
        self.first[np.unique(self.slots, return_index=True)[1]] = True
        self.count = int(self.slots.max()) + 1  # S: the slots up to the last of these
        self.whole = np.array_equal(self.slots, np.arange(self.count))


class NumpyKeyValueState:
    """Keys and values of all ids that each row has read, in slots of a store.

    States share slots: choosing rows copies none. New columns are written after the old ones; a row
    that another has already continued, or that is named twice, moves to a slot of its own first.
    """

    def __init__(self, rows: _Rows, lengths: Ids, longest: int) -> None:
        self.rows = rows
        self.lengths, self.longest = lengths, longest  # (B,) ids read so far, and the most of them
        self.store = rows.leases[0].store

    @classmethod
    def of(cls, layers: list[tuple[Floats, Floats]], lengths: Ids) -> Self:
        """The state of rows whose keys and values fill new arrays."""
        store = _Store(layers, lengths.copy())
        rows = _Rows([_Lease(store, slot) for slot in range(len(lengths))])
        return cls(rows, lengths, int(lengths.max()))

    def select(self, rows: ArrayLike) -> Self:
        """The state of these rows, in this order; a row may be named twice."""
        rows = np.asarray(rows, np.int64)
        leases, lengths = [self.rows.leases[row] for row in rows.tolist()], self.lengths[rows]
        return type(self)(_Rows(leases), lengths, int(lengths.max()))

    @classmethod
    def concat(cls, states: Sequence[Self]) -> Self:
        """One state of all rows, in order; the rows of smaller stores move to the largest."""
        store = max((state.store for state in states), key=lambda store: len(store.ends))
        leases: list[_Lease] = []
        for state in states:
            rows, own = state.rows, state.store is store
            leases += rows.leases if own else store.take(state.store, rows.slots, state.lengths)
        lengths = np.concatenate([state.lengths for state in states])
        return cls(_Rows(leases), lengths, max(state.longest for state in states))

    def columns(self, layer: int) -> tuple[Floats, Floats]:
        """A copy of what a layer keeps of rows of one length: keys (B, G, C, K), values."""
        keys, values = (array[self.rows.slots] for array in self.store.layers[layer])
        return keys[:, :, : self.lengths[0]], values[:, :, : self.lengths[0]]

    def with_column(self) -> Self:
        """The state after one more id per row, with a free column for it."""
        rows, store = self.rows, self.store
        if len(rows.slots) <= len(store.ends) // 4:  # most of the store is free or others'
            arrays = [(k[rows.slots], v[rows.slots]) for k, v in store.layers]
            return type(self).of(arrays, self.lengths).with_column()
        own = rows.first & (store.ends[rows.slots] == self.lengths)
        if not own.all():
            moved = np.flatnonzero(~own)
            leases = rows.leases.copy()
            new = store.take(store, rows.slots[moved], self.lengths[moved])
            for row, lease in zip(moved.tolist(), new, strict=True):
                leases[row] = lease
            rows = _Rows(leases)
        after = type(self)(rows, self.lengths + 1, self.longest + 1)
        store.reserve(0, after.longest)
        store.ends[rows.slots] = after.lengths
        return after


class View:
    """The slots up to the last that a state names, and the columns up to its longest row's end.

    Attention is computed for all of these slots; what it finds for those of no row is dropped,
    which costs less than to gather the keys and values of the others.
    """

    def __init__(self, state: NumpyKeyValueState) -> None:
        self.rows, self.newest = state.rows, state.lengths - 1
        self.columns = state.longest
        self.foreign: NDArray[np.bool_] | None = None  # (S, 1, C): columns to be ignored
        ends = state.store.ends[: self.rows.count]
        if ends.min() < self.columns:
            self.foreign = np.arange(self.columns) >= np.maximum(ends, 1)[:, None, None]

    def of(self, array: Floats, newest: Floats) -> Floats:
        """What is seen of keys or values, with the newest (B, G, …) in the last column."""
        if len(newest) == 1:  # by plain numbers, which is faster
            array[self.rows.count - 1, :, self.columns - 1] = newest[0]
        else:
            array[self.rows.slots, :, self.newest] = newest
        return array[: self.rows.count, :, : self.columns]

    def spread(self, rows: Floats) -> Floats:
        """Rows (B, …) to their slots (S, …)."""
        if self.rows.whole:
            return rows
        spread = np.zeros((self.rows.count, *rows.shape[1:]), np.float32)
        spread[self.rows.slots] = rows
        return spread

    def gather(self, found: Floats) -> Floats:
        """What was found for slots (S, …), for the rows (B, …)."""
        return found if self.rows.whole else found[self.rows.slots]
