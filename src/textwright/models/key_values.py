"""What a GPT has read, as keys and values that rows of a batch share.

Letters: B rows, G heads of keys and values, K key width, U value width of a head, C columns of a
state, S rows of its tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from textwright.compute.memory import memory_errors


@dataclass(frozen=True)
class KeyValueState:
    """Keys and values of all ids that each row has read, one column per id.

    All rows end in the same column; a row owns the last `lengths` columns. New columns are written
    after the old ones, into tensors that states share, so reading more ids copies nothing; a state
    from which reading continues a second time is copied first. Rows that leave stay in the tensors
    until half of them have left: attention is computed for them, too, which costs less than to copy
    the others.
    """

    layers: list[tuple[Tensor, Tensor]]  # keys (S, G, room, K), values (S, G, room, U)
    lengths: Tensor  # (B,) ids read so far
    columns: int  # C: the longest row's length
    written: list[int]  # columns written by any of the states that share these tensors
    slots: Tensor | None = None  # (B,) where in the tensors each row stands; None: in order

    @memory_errors()
    def select(self, rows: Tensor | Sequence[int]) -> KeyValueState:
        """The state of these rows, in this order; a row may be named twice."""
        rows = torch.as_tensor(rows, device=self.lengths.device)
        slots = rows if self.slots is None else self.slots[rows]
        chosen = replace(self, lengths=self.lengths[rows], slots=slots)
        stored = len(self.layers[0][0]) if self.layers else 0
        distinct = len(slots.unique()) == len(slots)
        if distinct and 2 * len(slots) > stored and 2 * int(chosen.lengths.max()) > self.columns:
            return chosen
        return chosen.packed()

    def packed(self) -> KeyValueState:
        """The same state in tensors that hold its rows alone, in order."""
        if self.slots is None:
            return self
        columns = int(self.lengths.max())
        own = slice(self.columns - columns, self.columns)
        layers = [(k[self.slots, :, own], v[self.slots, :, own]) for k, v in self.layers]
        return KeyValueState(layers, self.lengths, columns, [columns])

    @classmethod
    @memory_errors()
    def concat(cls, states: Sequence[KeyValueState]) -> KeyValueState:
        """One state of all rows, in order."""
        states = [state.packed() for state in states]
        columns = max(state.columns for state in states)

        def join(tensors: Sequence[Tensor]) -> Tensor:
            kept = zip(tensors, (state.columns for state in states), strict=True)
            return torch.cat([pad(t[:, :, :own], (0, 0, columns - own, 0)) for t, own in kept])

        layers = []
        for pairs in zip(*(state.layers for state in states), strict=True):
            keys, values = zip(*pairs, strict=True)
            layers.append((join(keys), join(values)))
        return cls(layers, torch.cat([state.lengths for state in states]), columns, [columns])

    def detach(self) -> KeyValueState:
        """The same values, cut off from the graph."""
        return replace(self, layers=[(k.detach(), v.detach()) for k, v in self.layers])

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, for a checkpoint; `from_tensors` reads them back."""
        own = self.packed()
        named = {"lengths": own.lengths}
        for layer, (keys, values) in enumerate(own.layers):
            named[f"{layer}.keys"] = keys[:, :, : own.columns]
            named[f"{layer}.values"] = values[:, :, : own.columns]
        return named

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> KeyValueState:
        count = sum(name.endswith(".keys") for name in tensors)
        layers = [(tensors[f"{at}.keys"], tensors[f"{at}.values"]) for at in range(count)]
        columns = layers[0][0].shape[2]
        return cls(layers, tensors["lengths"], columns, [columns])

    def with_room(self, count: int) -> KeyValueState:
        """The same state, with `count` free columns after its own."""
        end, room = self.columns + count, self.layers[0][0].shape[2]
        if end <= room and self.written[0] == self.columns:
            return self
        room = max(2 * self.columns, end)

        def copy(tensor: Tensor) -> Tensor:
            larger = tensor.new_empty(*tensor.shape[:2], room, tensor.shape[3])
            larger[:, :, : self.columns] = tensor[:, :, : self.columns]
            return larger

        layers = [(copy(keys), copy(values)) for keys, values in self.layers]
        return replace(self, layers=layers, written=[self.columns])

    def spread(self, rows: Tensor) -> Tensor:
        """Rows (B, …) to where they stand in the tensors (S, …); zeros elsewhere."""
        if self.slots is None:
            return rows
        stored = rows.new_zeros(len(self.layers[0][0]), *rows.shape[1:])
        return stored.index_copy(0, self.slots, rows)

    def aligned(self, padding: Tensor) -> KeyValueState:
        """The same rows, in order, each moved right over the `padding` (B,) at its end."""
        source = torch.arange(self.columns, device=padding.device) - padding[:, None]
        source = source.clamp(min=0)[:, None, :, None]  # (B, 1, C, 1)

        def move(tensor: Tensor) -> Tensor:
            kept = tensor[:, :, : self.columns]
            return kept.gather(2, source.expand_as(kept))

        layers = [(move(keys), move(values)) for keys, values in self.layers]
        return replace(self, layers=layers, written=[self.columns])

    def mask(self, count: int) -> Tensor | None:
        """Columns that each of `count` new ones may look at, (S or 1, 1, count, C); None: all."""
        ragged = bool((self.lengths < self.columns).any())
        if count == 1 and not ragged:
            return None
        columns = torch.arange(self.columns + count, device=self.lengths.device)
        earlier = columns <= columns[-count:, None]
        if ragged:
            others = self.columns - self.spread(self.lengths)  # columns before a row begins
            return (earlier & (columns >= others[:, None, None]))[:, None]
        return earlier[None, None]
