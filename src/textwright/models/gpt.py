"""The attention family: a decoder of Transformer blocks (Vaswani et al. 2017).

    token + position → (attention, feed-forward) × layers → output (V, D)

    attention: softmax(Q·Kᵀ/√K + causal mask)·V for each head, the heads joined by one matrix
    feed-forward: a wider layer, ReLU or GELU, and back
    each is added to its input; layer norm comes after the sum (post, as in Vaswani et al. and
    GPT-1) or before the part, with one more at the end (pre, as in GPT-2, Radford et al. 2019)

The model of Foster's book (Generative Deep Learning, ch. 9) is one setting, GPT-2 another.

Letters: B batch, T time, D width, V vocabulary, H heads, K key width, U value width of a head,
C columns of a state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from textwright.backends.numpy_gpt import sinusoids
from textwright.compute.memory import memory_errors
from textwright.families import GPTOptions
from textwright.models.contract import LanguageModel, Trace

INITIAL_SPREAD = 0.02  # standard deviation of fresh weights, as in GPT-2

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""queries (B, H, T, K), keys (B, H, T, K), values (B, H, T, U) → weighted values (B, H, T, U)."""


@dataclass(frozen=True)
class KeyValueState:
    """Keys and values of all ids that each row has read, one column per id.

    All rows end in the same column; a row owns the last `lengths` columns. New columns are written
    after the old ones, into tensors that states share, so reading more ids copies nothing; a state
    from which reading continues a second time is copied first.
    """

    layers: list[tuple[Tensor, Tensor]]  # keys (B, H, room, K), values (B, H, room, U)
    lengths: Tensor  # (B,) ids read so far
    columns: int  # C: the longest row's length
    written: list[int]  # columns written by any of the states that share these tensors

    @memory_errors()
    def select(self, rows: Tensor | Sequence[int]) -> KeyValueState:
        """The state of these rows, in this order; a row may be named twice."""
        rows = torch.as_tensor(rows, device=self.lengths.device)
        lengths = self.lengths[rows]
        columns = int(lengths.max())
        own = slice(self.columns - columns, self.columns)
        layers = [(keys[rows, :, own], values[rows, :, own]) for keys, values in self.layers]
        return KeyValueState(layers, lengths, columns, [columns])

    @classmethod
    @memory_errors()
    def concat(cls, states: Sequence[KeyValueState]) -> KeyValueState:
        """One state of all rows, in order."""
        columns = max(state.columns for state in states)

        def join(tensors: Sequence[Tensor]) -> Tensor:
            kept = zip(tensors, (state.columns for state in states), strict=True)
            return torch.cat([pad(t[:, :, :own], (0, 0, columns - own, 0)) for t, own in kept])

        layers = []
        for pairs in zip(*(state.layers for state in states), strict=True):
            keys, values = zip(*pairs, strict=True)
            layers.append((join(keys), join(values)))
        return cls(layers, torch.cat([state.lengths for state in states]), columns, [columns])

    @property
    def nbytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)

    def detach(self) -> KeyValueState:
        """The same values, cut off from the graph."""
        return replace(self, layers=[(k.detach(), v.detach()) for k, v in self.layers])

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, for a checkpoint; `from_tensors` reads them back."""
        named = {"lengths": self.lengths}
        for layer, (keys, values) in enumerate(self.layers):
            named[f"{layer}.keys"] = keys[:, :, : self.columns]
            named[f"{layer}.values"] = values[:, :, : self.columns]
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

    def aligned(self, padding: Tensor) -> KeyValueState:
        """The same rows, each moved right over the `padding` (B,) at its end."""
        source = torch.arange(self.columns, device=padding.device) - padding[:, None]
        source = source.clamp(min=0)[:, None, :, None]  # (B, 1, C, 1)

        def move(tensor: Tensor) -> Tensor:
            kept = tensor[:, :, : self.columns]
            return kept.gather(2, source.expand_as(kept))

        layers = [(move(keys), move(values)) for keys, values in self.layers]
        return replace(self, layers=layers, written=[self.columns])


class Attention(nn.Module):
    """Causal attention with several heads, of any key and value width."""

    def __init__(self, options: GPTOptions):
        super().__init__()
        self.heads, width = options.heads, options.width
        key, value = options.head_widths
        self.widths = [self.heads * key, self.heads * key, self.heads * value]
        self.input = nn.Linear(width, sum(self.widths))  # queries, keys, values of all heads
        self.output = nn.Linear(self.heads * value, width)

    def forward(self, x: Tensor, attend: Attend) -> Tensor:
        """x (B, T, D) → (B, T, D)."""
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, K or U)
            for part in self.input(x).split(self.widths, dim=-1)
        )
        found = attend(queries, keys, values)
        return self.output(found.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers, the same at every position."""

    def __init__(self, options: GPTOptions):
        super().__init__()
        self.input = nn.Linear(options.width, options.inner_width)
        self.activation = nn.ReLU() if options.activation == "relu" else nn.GELU("tanh")
        self.output = nn.Linear(options.inner_width, options.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.activation(self.input(x)))


class Block(nn.Module):
    """Attention, then feed-forward, each added to its input."""

    def __init__(self, options: GPTOptions):
        super().__init__()
        self.pre = options.norm == "pre"
        self.attention = Attention(options)
        self.attention_norm = nn.LayerNorm(options.width, options.norm_epsilon)
        self.feedforward = FeedForward(options)
        self.feedforward_norm = nn.LayerNorm(options.width, options.norm_epsilon)
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, x: Tensor, attend: Attend) -> Tensor:
        """x (B, T, D) → (B, T, D)."""
        if self.pre:
            x = x + self.dropout(self.attention(self.attention_norm(x), attend))
            return x + self.dropout(self.feedforward(self.feedforward_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attention(x, attend)))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


class GPT(LanguageModel):
    """A Transformer language model that looks back on at most `context_length` ids."""

    options: GPTOptions
    context_length: int
    state_class = KeyValueState

    def __init__(self, options: GPTOptions, vocab_size: int):
        super().__init__()
        self.options, self.vocab_size = options, vocab_size
        self.context_length, width = options.context_length, options.width
        self.embedding = nn.Parameter(torch.empty(vocab_size, width))
        if options.positions == "learned":
            self.positions = nn.Parameter(torch.empty(self.context_length, width))
        else:
            table = torch.from_numpy(sinusoids(self.context_length, width))
            self.register_buffer("positions", table, persistent=False)
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.layers))
        self.norm = nn.LayerNorm(width, options.norm_epsilon) if options.norm == "pre" else None
        self.output = nn.ParameterDict()
        if not options.tie_output:
            self.output["weight"] = torch.empty(vocab_size, width)
            self.output["bias"] = torch.zeros(vocab_size)
        self._initialize()

    @property
    def output_weight(self) -> Tensor:
        """(V, D): a matrix of its own, or the embedding's (Press & Wolf 2017)."""
        return self.embedding if self.options.tie_output else self.output["weight"]

    @property
    def output_bias(self) -> Tensor | None:
        return None if self.options.tie_output else self.output["bias"]

    def encode(
        self, ids: Tensor, state: KeyValueState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, KeyValueState]:
        """ids (B, T) → hidden (B, T, D) and the state after them.

        A row holds at most `context_length` ids, those of the state included. Rows shorter than T
        are padded on the right; `lengths` (B,) gives their lengths. If blocks are recomputed, the
        state is empty.
        """
        count = ids.shape[1]
        recompute = self.recompute_blocks and self.training and torch.is_grad_enabled()
        state = self.start(len(ids)) if state is None else state.with_room(count)
        before, end = state.columns, state.columns + count
        mask = _mask(state, count) if before else None
        layers: list[tuple[Tensor, Tensor]] = []

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if not before:  # padding is at the right, where no id looks
                if not recompute:
                    layers.append((k, v))
                return scaled_dot_product_attention(q, k, v, is_causal=True)
            keys, values = state.layers[len(layers)]
            keys[:, :, before:end], values[:, :, before:end] = k, v
            layers.append((keys, values))
            return scaled_dot_product_attention(
                q, keys[:, :, :end], values[:, :, :end], attn_mask=mask
            )

        x = self._embed(ids, state.lengths)
        for block in self.blocks:
            call = partial(checkpoint, block, use_reentrant=False) if recompute else block
            x = call(x, attend)
        state.written[0] = end
        after = KeyValueState(layers, state.lengths + count, end, state.written)
        if lengths is not None:
            padding = count - lengths.to(ids.device)
            after = replace(after.aligned(padding), lengths=after.lengths - padding)
        return self._finish(x), after

    def start(self, rows: int) -> KeyValueState:
        """The state before the first id."""
        lengths = torch.zeros(rows, dtype=torch.long, device=self.embedding.device)
        return KeyValueState([], lengths, 0, [0])

    def trace(self, ids: Tensor) -> Trace:
        """The attention of every head of every layer to ids (B, T), by explicit equations."""
        attention: list[Tensor] = []
        later = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).triu(1)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            scores = q @ k.transpose(-1, -2) / math.sqrt(k.shape[-1])
            attention.append(scores.masked_fill(later, -math.inf).softmax(-1))
            return attention[-1] @ v

        x = self._embed(ids, torch.zeros(len(ids), dtype=torch.long, device=ids.device))
        for block in self.blocks:
            x = block(x, attend)
        return Trace(hidden=self._finish(x), attention=attention)

    def _embed(self, ids: Tensor, before: Tensor) -> Tensor:
        """ids (B, T), number of ids read before (B,) → token plus position vectors (B, T, D)."""
        places = before[:, None] + torch.arange(ids.shape[1], device=ids.device)
        token = nn.functional.embedding(ids, self.embedding)
        if self.options.token_scale != 1:
            token = self.options.token_scale * token
        return token + nn.functional.embedding(places, self.positions)

    def _finish(self, x: Tensor) -> Tensor:
        return x if self.norm is None else self.norm(x)

    def _initialize(self) -> None:
        """Initialize as GPT-2 does: normal weights, zero biases, and output matrices of the parts
        divided by the square root of their number, so that the sum keeps its size at any depth."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=INITIAL_SPREAD)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            if name.startswith("blocks") and name.endswith("output.weight"):
                parameter.data /= math.sqrt(2 * self.options.layers)


def _mask(state: KeyValueState, count: int) -> Tensor | None:
    """Columns that each of `count` new ones may look at, (B or 1, 1, count, C); None: all."""
    ragged = bool((state.lengths < state.columns).any())
    if count == 1 and not ragged:
        return None
    columns = torch.arange(state.columns + count, device=state.lengths.device)
    earlier = columns <= columns[-count:, None]
    if ragged:
        return (earlier & (columns >= (state.columns - state.lengths)[:, None, None]))[:, None]
    return earlier[None, None]
