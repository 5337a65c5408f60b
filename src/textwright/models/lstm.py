"""The recurrent family: LSTM, GRU and plain tanh RNN language models.

    embedding (V, E) → cell × layers, dropout after each → output (V, H)

or, where the embedding is the output matrix and narrower or wider than the cells, with a projection
(E, H) before it (Press & Wolf 2017; Inan et al. 2017).

The LSTM cell, as in Hochreiter & Schmidhuber (1997) with the forget gate of Gers et al. (2000):

    f = σ(W_f·[x, h] + b_f)    i = σ(W_i·[x, h] + b_i)    C̃ = tanh(W_C·[x, h] + b_C)
    C = f∘C₋₁ + i∘C̃            o = σ(W_o·[x, h] + b_o)    h = o∘tanh(C)

One bias vector per gate, as in Keras; PyTorch's kernel needs a second one, a zero buffer here that
is neither counted nor saved. The GRU keeps both: its reset gate stands between them (Cho et al.
2014, in the form that cuDNN computes).

Letters: B batch, T time, E embedding, H hidden width (D of the contract), V vocabulary.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from textwright.compute.memory import memory_errors
from textwright.families import LSTMOptions
from textwright.models.contract import LanguageModel, Trace
from textwright.models.dropout import Dropout

# Weights are parameters of their own, which cuDNN joins anew at each call, and warns each time.
warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")

GATES = {"lstm": ("i", "f", "candidate", "o"), "gru": ("r", "z", "n"), "rnn": ("h",)}


@dataclass(frozen=True)
class RecurrentState:
    """A model's memory of each row. hidden, cell (layers, B, H); only an LSTM has cells."""

    hidden: Tensor
    cell: Tensor | None
    lengths: Tensor  # (B,) ids read so far

    @memory_errors()
    def select(self, rows: Tensor | Sequence[int]) -> RecurrentState:
        """The state of these rows, in this order; a row may be named twice."""
        rows = torch.as_tensor(rows, device=self.hidden.device)
        cell = None if self.cell is None else self.cell[:, rows]
        return RecurrentState(self.hidden[:, rows], cell, self.lengths[rows])

    @classmethod
    @memory_errors()
    def concat(cls, states: Sequence[RecurrentState]) -> RecurrentState:
        """One state of all rows, in order."""
        hidden = torch.cat([s.hidden for s in states], 1)
        cells = [s.cell for s in states if s.cell is not None]
        lengths = torch.cat([s.lengths for s in states])
        return cls(hidden, torch.cat(cells, 1) if cells else None, lengths)

    def detach(self) -> RecurrentState:
        """The same values, cut off from the graph: truncated backpropagation through time."""
        cell = None if self.cell is None else self.cell.detach()
        return RecurrentState(self.hidden.detach(), cell, self.lengths)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, for a checkpoint; `from_tensors` reads them back."""
        named = {"hidden": self.hidden, "cell": self.cell, "lengths": self.lengths}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> RecurrentState:
        return cls(tensors["hidden"], tensors.get("cell"), tensors["lengths"])


class Layer(nn.Module):
    """One recurrent layer over a whole sequence, by PyTorch's fused kernels."""

    def __init__(self, cell: str, inputs: int, width: int):
        super().__init__()
        self.cell = cell
        gates = len(GATES[cell])
        self.input_weight = nn.Parameter(torch.empty(gates * width, inputs))
        self.recurrent_weight = nn.Parameter(torch.empty(gates * width, width))
        self.bias = nn.Parameter(torch.zeros(gates * width))
        if cell == "gru":
            self.recurrent_bias = nn.Parameter(torch.zeros(gates * width))
        else:  # zeros also where parameters have no values yet, on the meta device
            zeros = torch.zeros(gates * width, device="cpu")
            self.register_buffer("recurrent_bias", zeros, persistent=False)

    def initialize(self, like: str) -> None:
        """Draw fresh weights as Keras or PyTorch does."""
        width = self.recurrent_weight.shape[1]
        if like == "torch":
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -(width**-0.5), width**-0.5)
            return
        nn.init.xavier_uniform_(self.input_weight)
        nn.init.orthogonal_(self.recurrent_weight)
        if self.cell == "lstm":  # remember by default (Jozefowicz et al. 2015)
            nn.init.ones_(self.bias.data[width : 2 * width])

    @property
    def weights(self) -> list[Tensor]:
        return [self.input_weight, self.recurrent_weight, self.bias, self.recurrent_bias]

    def forward(
        self, x: Tensor, hidden: Tensor, cell: Tensor | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """x (B, T, inputs), hidden and cell (B, H) → every h (B, T, H), last h, last C (B, H).

        With lengths (B,), the last states are those after each row's own last token.
        """
        start = hidden[None] if cell is None else (hidden[None], cell[None])
        kernels: dict[str, Any] = {"lstm": torch.lstm, "gru": torch.gru, "rnn": torch.rnn_tanh}
        kernel = kernels[self.cell]
        tracked = torch.is_grad_enabled()  # kernels keep what the backward pass needs
        if lengths is None:
            out, *last = kernel(x, start, self.weights, True, 1, 0.0, tracked, False, True)
        else:
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            order = packed.sorted_indices
            start = (
                hidden[None, order] if cell is None else (hidden[None, order], cell[None, order])
            )
            data, *last = kernel(
                packed.data, packed.batch_sizes, start, self.weights, True, 1, 0.0, tracked, False
            )
            last = [state[:, packed.unsorted_indices] for state in last]
            out, _ = pad_packed_sequence(
                packed._replace(data=data), batch_first=True, total_length=x.shape[1]
            )
        return out, last[0][0], last[1][0] if cell is not None else None

    def trace(self, x: Tensor) -> dict[str, Tensor]:
        """The cell's equations written out, from a zero state: every quantity, (B, T, H) each."""
        h = c = x.new_zeros(x.shape[0], self.recurrent_weight.shape[1])
        steps: list[dict[str, Tensor]] = []
        for x_t in x.unbind(1):
            given = x_t @ self.input_weight.T + self.bias
            recurrent = h @ self.recurrent_weight.T + self.recurrent_bias
            if self.cell == "gru":
                (r_x, z_x, n_x), (r_h, z_h, n_h) = given.chunk(3, 1), recurrent.chunk(3, 1)
                r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
                n = torch.tanh(n_x + r * n_h)
                h = (1 - z) * n + z * h
                steps.append({"r": r, "z": z, "n": n, "h": h})
            elif self.cell == "rnn":
                h = torch.tanh(given + recurrent)
                steps.append({"h": h})
            else:
                i, f, candidate, o = (given + recurrent).chunk(4, 1)
                i, f, o = torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o)
                candidate = torch.tanh(candidate)
                c = f * c + i * candidate
                h = o * torch.tanh(c)
                steps.append({"f": f, "i": i, "candidate": candidate, "C": c, "o": o, "h": h})
        return {name: torch.stack([step[name] for step in steps], 1) for name in steps[0]}


class LSTM(LanguageModel):
    """A recurrent language model; `options.cell` chooses LSTM, GRU or tanh RNN."""

    options: LSTMOptions
    context_length = None  # no limit
    state_class = RecurrentState

    def __init__(self, options: LSTMOptions, vocab_size: int):
        super().__init__()
        self.options = options
        width = options.hidden_size
        self.embedding = nn.Parameter(torch.empty(vocab_size, options.embedding_size))
        widths = [options.embedding_size] + [width] * options.layers
        self.layers = nn.ModuleList(
            Layer(options.cell, inputs, outputs) for inputs, outputs in pairwise(widths)
        )
        self.dropout = Dropout(options.dropout)
        self.output = nn.ParameterDict({"bias": torch.zeros(vocab_size)})
        if not options.tie_output:
            self.output["weight"] = torch.empty(vocab_size, width)
        if options.projects:
            self.output["projection"] = torch.empty(options.embedding_size, width)
        self._initialize(options.initialization)

    def _initialize(self, like: str) -> None:
        if self.embedding.is_meta:  # no values; to draw them, torch would import its compiler
            return
        if like == "torch":
            nn.init.normal_(self.embedding)
        else:
            nn.init.uniform_(self.embedding, -0.05, 0.05)
        if self.options.projects:
            nn.init.xavier_uniform_(self.output["projection"])
        for layer in self.layers:
            cast(Layer, layer).initialize(like)
        if not self.options.tie_output:
            if like == "torch":
                limit = self.options.hidden_size**-0.5
                nn.init.uniform_(self.output["weight"], -limit, limit)
            else:
                nn.init.xavier_uniform_(self.output["weight"])

    @property
    def output_weight(self) -> Tensor:
        """(V, H): a matrix of its own; or the embedding (V, E), for hidden of its width."""
        return self.embedding if self.options.tie_output else self.output["weight"]

    @property
    def output_bias(self) -> Tensor:
        return self.output["bias"]

    def encode(
        self,
        ids: Tensor,
        state: RecurrentState | None = None,
        lengths: Tensor | None = None,
        begins: Tensor | None = None,
    ) -> tuple[Tensor, RecurrentState]:
        """ids (B, T) → hidden (B, T, H), or (B, T, E) after a projection, and the state.

        Rows shorter than T are padded on the right; `lengths` (B,) gives their lengths, and the
        state is the one after each row's last real id. The state goes on where a document begins,
        so begins is not read.
        """
        if state is None:
            state = self.start(len(ids))
        x = nn.functional.embedding(ids, self.embedding)
        x = self._drop(x) if self.options.variational else x
        hiddens, cells = [], []
        for index, layer in enumerate(self.layers):
            cell = None if state.cell is None else state.cell[index]
            with _kernel_precision(x.device.type):
                x, hidden, cell = layer(x, state.hidden[index], cell, lengths)
            hiddens.append(hidden)
            cells.append(cell)
            x = self._drop(x)
        read = lengths.to(ids.device) if lengths is not None else ids.shape[1]
        cell = None if state.cell is None else torch.stack([c for c in cells if c is not None])
        return self._projected(x), RecurrentState(torch.stack(hiddens), cell, state.lengths + read)

    def _drop(self, x: Tensor) -> Tensor:
        """Dropout in training; variational, one mask for all places of a row."""
        if not (self.options.variational and self.training):
            return cast(Tensor, self.dropout(x))
        return x * self.dropout(torch.ones_like(x[:, :1]))

    def _projected(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.output["projection"]) if self.options.projects else x

    def start(self, rows: int) -> RecurrentState:
        """The state before the first id."""
        zero = self.embedding.new_zeros(len(self.layers), rows, self.options.hidden_size)
        lengths = torch.zeros(rows, dtype=torch.long, device=zero.device)
        return RecurrentState(zero, zero if self.options.cell == "lstm" else None, lengths)

    def trace(self, ids: Tensor) -> Trace:
        """Every quantity of every layer for ids (B, T), computed by the written-out equations."""
        x = nn.functional.embedding(ids, self.embedding)
        gates = []
        for layer in self.layers:
            gates.append(cast(Layer, layer).trace(x))
            x = self._drop(gates[-1]["h"])
        return Trace(hidden=self._projected(x), gates=gates)


def _kernel_precision(device: str) -> torch.autocast:
    """bf16 in recurrent layers where it is asked for and there are kernels; CUDA's take fp16."""
    asked = torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=asked and device == "cpu" and _has_bf16_lstm())


@cache
def _has_bf16_lstm() -> bool:
    """Whether PyTorch has an LSTM in bf16 for this processor: oneDNN's needs AVX-512."""
    weights = [torch.zeros(4, 1), torch.zeros(4, 1), torch.zeros(4), torch.zeros(4)]
    start = torch.zeros(1, 1, 1)
    try:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            torch.lstm(start, (start, start), weights, True, 1, 0.0, False, False, True)
    except RuntimeError:
        return False
    return True
