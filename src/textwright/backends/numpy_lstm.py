"""The recurrent family without torch: LSTM, GRU and tanh RNN weights as a NumPy backend.

Writing one token is a handful of matrix-vector products, so starting torch would take longer than
writing a page. The equations are those of `models/lstm.py`, against which the backend is checked.

Letters: B batch, T time, E embedding, H hidden width, G gates (LSTM 4, GRU 3, RNN 1), V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from textwright.backends.weights import REMEDY, Floats, Ids, NumpyWeights, Output
from textwright.errors import RunError
from textwright.families import LSTMOptions

_CELLS = {4: "lstm", 3: "gru", 1: "rnn"}
# An id's input to the first layer's gates is computed once and kept, if those of the whole
# vocabulary fit into this many numbers (64 MB, of which only the used part takes memory).
_TABLE_SIZE = 1 << 24


@dataclass(frozen=True)
class NumpyRecurrentState:
    """A model's memory of each row. hidden, cell (layers, B, H); only an LSTM has cells."""

    hidden: Floats
    cell: Floats | None
    lengths: Ids  # (B,) ids read so far

    def select(self, rows: ArrayLike) -> Self:
        """The state of these rows, in this order; a row may be named twice."""
        rows = np.asarray(rows, np.int64)
        cell = None if self.cell is None else self.cell[:, rows]
        return type(self)(self.hidden[:, rows], cell, self.lengths[rows])

    @classmethod
    def concat(cls, states: Sequence[Self]) -> Self:
        """One state of all rows, in order."""
        cells = [state.cell for state in states if state.cell is not None]
        return cls(
            np.concatenate([state.hidden for state in states], axis=1),
            np.concatenate(cells, axis=1) if cells else None,
            np.concatenate([state.lengths for state in states]),
        )


class NumpyLSTM:
    """A recurrent model's weights as a backend."""

    context_length: int | None = None  # no limit

    def __init__(self, weights: Mapping[str, NDArray[np.floating]]) -> None:
        """weights by their canonical names, as `safetensors.numpy.load_file` gives them.

        embedding (V, E) · layers.{i}.input_weight (G·H, X) · layers.{i}.recurrent_weight (G·H, H) ·
        layers.{i}.bias (G·H), for a GRU also .recurrent_bias · output.weight (V, H), absent if it
        is the embedding · output.projection (E, H), if it is that after a projection · output.bias
        (V). Raises RunError for names or shapes that do not fit.
        """
        named = NumpyWeights(weights)
        self._embedding = named.take("embedding", (None, None))
        self.vocab_size, width = self._embedding.shape
        self._layers: list[_Layer] = []
        while not self._layers or f"layers.{len(self._layers)}.recurrent_weight" in weights:
            layer = _Layer(named, f"layers.{len(self._layers)}.", width)
            self._layers.append(layer)
            width = layer.width
            if (layer.cell, width) != (self._layers[0].cell, self._layers[0].width):
                raise RunError(f"The layers differ in kind or width. {REMEDY}")
        tied = "output.weight" not in weights
        output = self._embedding if tied else named.take("output.weight", (self.vocab_size, width))
        if tied and "output.projection" in weights:
            output = output @ named.take("output.projection", (output.shape[1], width))
        if output.shape[1] != width:
            raise RunError(
                f"output.weight is missing, and the embedding, {output.shape[1]} wide, cannot "
                f"stand in for it: the model is {width} wide. {REMEDY}"
            )
        bias = named.take("output.bias", (self.vocab_size,))
        named.refuse_others()
        self._project = Output(output, bias)
        gates = len(self._layers[0].bias)
        self._given: Floats | None = None
        if self.vocab_size * gates <= _TABLE_SIZE:
            self._given = np.empty((self.vocab_size, gates), np.float32)
            self._known = bytearray(self.vocab_size)  # whether an id's is there

    def prefill(self, ids: Ids, lengths: Ids) -> tuple[Floats, NumpyRecurrentState]:
        """ids (B, T) padded on the right, lengths (B,) ≥ 1 → logits after each row (B, V)."""
        lengths = np.asarray(lengths, np.int64)
        # Longest rows first, so that the unfinished ones are always the first and need no mask.
        order = np.argsort(-lengths, kind="stable")
        ids, ends = np.asarray(ids)[order], lengths[order]
        shape = (len(self._layers), len(ids), self._layers[0].width)
        hidden = np.zeros(shape, np.float32)
        cell = np.zeros(shape, np.float32) if self._layers[0].cell == "lstm" else None
        for t in range(int(ends[0])):
            running = int(np.searchsorted(-ends, -t, "left"))
            was = None if cell is None else cell[:, :running]
            h, c = self._advance(ids[:running, t], hidden[:, :running], was)
            hidden[:, :running] = h
            if cell is not None:
                cell[:, :running] = c
        state = NumpyRecurrentState(hidden, cell, ends).select(np.argsort(order))
        return self._project(state.hidden[-1]), state

    def step(self, ids: Ids, state: NumpyRecurrentState) -> tuple[Floats, NumpyRecurrentState]:
        """Read one more id per row, (B,) → logits (B, V)."""
        hidden, cell = self._advance(ids, state.hidden, state.cell)
        return self._project(hidden[-1]), NumpyRecurrentState(hidden, cell, state.lengths + 1)

    def follow(self, ids: Ids, state: NumpyRecurrentState) -> tuple[Floats, NumpyRecurrentState]:
        """Read more ids of each row, (B, T) → logits after each of them (B, T, V)."""
        rows, count = ids.shape
        hidden, cell = state.hidden, state.cell
        after = np.empty((rows, count, hidden.shape[-1]), np.float32)
        for t in range(count):
            hidden, cell = self._advance(ids[:, t], hidden, cell)
            after[:, t] = hidden[-1]
        logits = self._project(after.reshape(rows * count, -1)).reshape(rows, count, -1)
        return logits, NumpyRecurrentState(hidden, cell, state.lengths + count)

    def _advance(
        self, ids: Ids, hidden: Floats, cell: Floats | None
    ) -> tuple[Floats, Floats | None]:
        new_hidden = np.empty_like(hidden)
        new_cell = None if cell is None else np.empty_like(cell)
        given = self._look_up(ids)
        for i, layer in enumerate(self._layers):
            if i:
                given = layer.given(new_hidden[i - 1])
            if cell is None or new_cell is None:
                layer.advance(given, hidden[i], new_hidden[i])
            else:
                layer.advance_lstm(given, hidden[i], cell[i], new_hidden[i], new_cell[i])
        return new_hidden, new_cell

    def _look_up(self, ids: Ids) -> Floats:
        """The input of the ids (B,) to the first layer's gates, (B, G·H)."""
        if self._given is None:
            return self._layers[0].given(self._embedding[ids])
        for new in ids.tolist():
            if not self._known[new]:  # one by one: the same in any batch
                self._given[new] = self._layers[0].given(self._embedding[new])
                self._known[new] = True
        return self._given[ids]


def open_backend(weights: Mapping[str, NDArray[np.floating]], options: LSTMOptions) -> NumpyLSTM:
    """The backend of a run. Its shape follows from the weights; the options are not needed."""
    return NumpyLSTM(weights)


class _Layer:
    """One layer's weights, laid out for speed, and its equations.

    Sigmoid gates come first, the candidate last. Weights of sigmoid gates are halved (exact in
    binary), because σ(x) = ½ + ½·tanh(x/2): one tanh serves all gates.
    """

    def __init__(self, named: NumpyWeights, prefix: str, inputs: int) -> None:
        recurrent = named.take(prefix + "recurrent_weight", (None, None))
        rows, self.width = recurrent.shape
        gates, rest = divmod(rows, self.width)
        if rest or gates not in _CELLS:
            raise RunError(
                f"{prefix}recurrent_weight has shape {recurrent.shape}; an LSTM has 4 times as "
                f"many rows as columns, a GRU 3, an RNN 1. {REMEDY}"
            )
        self.cell = _CELLS[gates]
        # The file's order is i, f, candidate, o (LSTM) and r, z, n (GRU).
        order = [0, 1, 3, 2] if self.cell == "lstm" else list(range(gates))

        def lay_out(weight: Floats) -> Floats:
            by_gate = weight.reshape(gates, self.width, -1)[order]
            by_gate[: gates - 1] *= np.float32(0.5)
            return np.ascontiguousarray(by_gate.reshape(rows, -1).T)

        self.input_weight = lay_out(named.take(prefix + "input_weight", (rows, inputs)))
        self.recurrent_weight = lay_out(recurrent)
        self.bias = lay_out(named.take(prefix + "bias", (rows,)))[0]
        if self.cell == "gru":
            self.recurrent_bias = lay_out(named.take(prefix + "recurrent_bias", (rows,)))[0]

    def given(self, x: Floats) -> Floats:
        """The input to the gates: x (B, X) → (B, G·H)."""
        product = x @ self.input_weight
        product += self.bias
        return product

    def advance_lstm(
        self, given: Floats, h: Floats, c: Floats, new_h: Floats, new_c: Floats
    ) -> None:
        """f, i, o = σ(…); C̃ = tanh(…); C = f∘C₋₁ + i∘C̃; h = o∘tanh(C), into new_h and new_c."""
        width = self.width
        gates = h @ self.recurrent_weight
        gates += given
        np.tanh(gates, out=gates)
        candidate = gates[:, 3 * width :]
        sigmoids = gates[:, : 3 * width]
        sigmoids *= np.float32(0.5)
        sigmoids += np.float32(0.5)
        np.multiply(sigmoids[:, width : 2 * width], c, out=new_c)
        candidate *= sigmoids[:, :width]
        new_c += candidate
        np.tanh(new_c, out=new_h)
        new_h *= sigmoids[:, 2 * width :]

    def advance(self, given: Floats, h: Floats, new_h: Floats) -> None:
        """GRU: r, z = σ(…); n = tanh(W·x + b + r∘(U·h + b')); h = n + z∘(h₋₁ − n). RNN: tanh(…)."""
        recurrent = h @ self.recurrent_weight
        if self.cell == "rnn":
            recurrent += given
            np.tanh(recurrent, out=new_h)
            return
        width = self.width
        recurrent += self.recurrent_bias
        gates = recurrent[:, : 2 * width] + given[:, : 2 * width]
        np.tanh(gates, out=gates)
        gates *= np.float32(0.5)
        gates += np.float32(0.5)
        candidate = recurrent[:, 2 * width :]
        candidate *= gates[:, :width]
        candidate += given[:, 2 * width :]
        np.tanh(candidate, out=candidate)
        np.subtract(h, candidate, out=new_h)
        new_h *= gates[:, width:]
        new_h += candidate
