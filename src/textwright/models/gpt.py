"""The attention family: a decoder of Transformer blocks (Vaswani et al. 2017).

    token + position → (attention, feed-forward) × layers → output (V, D)

    attention: softmax(Q·Kᵀ/√K + causal mask)·V for each head, the heads joined by one matrix;
    a group of heads may share keys and values (Ainslie et al. 2023)
    feed-forward: a wider layer, ReLU or GELU, and back; or SiLU(x·Wg) ∘ (x·Wu) and back (SwiGLU,
    Shazeer 2020)
    each is added to its input; the norm comes after the sum (post, as in Vaswani et al. and GPT-1)
    or before the part, with one more at the end (pre, as in GPT-2, Radford et al. 2019); layer norm
    (Ba et al. 2016) or RMS norm (Zhang & Sennrich 2019)
    positions: a vector added to the token's, or queries and keys turned by an angle that grows with
    the place (rotary, Su et al. 2021)

The model of Foster's book (Generative Deep Learning, ch. 9) is one setting; GPT-2, Llama, Qwen2 and
Qwen3 are others.

Letters: B batch, T time, D width, V vocabulary, H heads, G heads of keys and values, K key width,
U value width of a head, C context length.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from textwright.backends.positions import rotary_waves, sinusoids
from textwright.compute.device import product_dtype
from textwright.families import GPTOptions
from textwright.models.contract import LanguageModel, Trace
from textwright.models.dropout import Dropout
from textwright.models.key_values import KeyValueState
from textwright.models.norms import RMSNorm, Rotation, cut_heads

INITIAL_SPREAD = 0.02  # standard deviation of fresh weights, as in GPT-2
BY_PRODUCTS = 512  # places up to which a processor attends to all at once
HIDDEN = 1e30  # taken from the score of a place that may not be looked at

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""queries (B, H, T, K), keys (B, G, T, K), values (B, G, T, U) → weighted values (B, H, T, U)."""


class Attention(nn.Module):
    """Causal attention with several heads, of any key and value width."""

    def __init__(self, options: GPTOptions):
        super().__init__()
        key, value = options.head_widths
        self.heads, self.value = (options.heads, options.shared_heads), value
        # Queries, keys and values of all heads.
        self.joined = [self.heads[0] * key, self.heads[1] * key, self.heads[1] * value]
        self.input = nn.Linear(options.width, sum(self.joined), bias=options.biases != "none")
        self.output = nn.Linear(options.heads * value, options.width, bias=options.biases == "all")
        self.query_norm = nn.RMSNorm(key, options.norm_epsilon) if options.query_key_norm else None
        self.key_norm = nn.RMSNorm(key, options.norm_epsilon) if options.query_key_norm else None

    def forward(self, x: Tensor, attend: Attend, rotation: Rotation | None) -> Tensor:
        """x (B, T, D) → (B, T, D)."""
        norms = None
        if self.query_norm is not None and self.key_norm is not None:
            norms = self.query_norm, self.key_norm
        found = attend(*cut_heads(self.input, x, self.heads, self.value, norms, rotation))
        return self.output(found.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers, the same at every position."""

    def __init__(self, options: GPTOptions):
        super().__init__()
        bias, self.gated = options.biases == "all", options.activation == "swiglu"
        inner = options.inner_width
        self.joined = [inner, inner] if self.gated else [inner]
        self.input = nn.Linear(options.width, sum(self.joined), bias=bias)
        kinds = {"gelu": nn.GELU("tanh"), "relu": nn.ReLU(), "swiglu": nn.SiLU()}
        self.activation = kinds[options.activation]
        self.output = nn.Linear(inner, options.width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.gated:
            gate, up = self.input(x).chunk(2, dim=-1)
            return self.output(self.activation(gate) * up)
        return self.output(self.activation(self.input(x)))


class Block(nn.Module):
    """Attention, then feed-forward, each added to its input."""

    def __init__(self, options: GPTOptions):
        super().__init__()
        self.pre = options.norm == "pre"
        self.attention = Attention(options)
        self.attention_norm = _norm(options)
        self.feedforward = FeedForward(options)
        self.feedforward_norm = _norm(options)
        self.dropout = Dropout(options.dropout)

    def forward(self, x: Tensor, attend: Attend, rotation: Rotation | None) -> Tensor:
        """x (B, T, D) → (B, T, D)."""
        if self.pre:
            x = x + self.dropout(self.attention(self.attention_norm(x), attend, rotation))
            return x + self.dropout(self.feedforward(self.feedforward_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attention(x, attend, rotation)))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


class GPT(LanguageModel):
    """A Transformer language model that looks back on at most `context_length` ids."""

    options: GPTOptions
    context_length: int
    state_class = KeyValueState
    positions: Tensor
    rotation: Tensor

    def __init__(self, options: GPTOptions, vocab_size: int):
        super().__init__()
        self.options = options
        self.context_length, width = options.context_length, options.width
        self.embedding = nn.Parameter(torch.empty(vocab_size, width))
        if options.positions == "learned":
            self.positions = nn.Parameter(torch.empty(self.context_length, width))
        elif options.positions == "sinusoidal":
            table = torch.from_numpy(sinusoids(self.context_length, width))
            self.register_buffer("positions", table, persistent=False)
        else:  # cosines and sines (C, K/2)
            waves = torch.from_numpy(np.stack(rotary_waves(options)))
            self.register_buffer("rotation", waves, persistent=False)
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.layers))
        self.norm = _norm(options) if options.norm == "pre" else None
        self.output = nn.ParameterDict()
        if not options.tie_output:
            self.output["weight"] = torch.empty(vocab_size, width)
        if options.output_bias:
            self.output["bias"] = torch.zeros(vocab_size)
        self._initialize()

    @property
    def output_weight(self) -> Tensor:
        """(V, D): a matrix of its own, or the embedding's (Press & Wolf 2017)."""
        return self.embedding if self.options.tie_output else self.output["weight"]

    @property
    def output_bias(self) -> Tensor | None:
        return self.output["bias"] if self.options.output_bias else None

    def joined_matrices(self) -> dict[str, list[int]]:
        parts = (m for m in self.named_modules() if isinstance(m[1], Attention | FeedForward))
        return {f"{name}.input.weight": part.joined for name, part in parts}

    def encode(
        self,
        ids: Tensor,
        state: KeyValueState | None = None,
        lengths: Tensor | None = None,
        begins: Tensor | None = None,
    ) -> tuple[Tensor, KeyValueState]:
        """ids (B, T) → hidden (B, T, D) and the state after them.

        A row, with the ids in its state, may have at most `context_length` ids. Rows shorter than T
        are padded on the right and their lengths (B,) given. begins (B, T) bool, without a state:
        where a row's next document begins, which is read as if alone. If blocks are recomputed, the
        returned state is empty.
        """
        count = ids.shape[1]
        recompute = self.recompute_blocks and self.training and torch.is_grad_enabled()
        state = self.start(len(ids)) if state is None else state.with_room(count)
        before, end = state.columns, state.columns + count
        rows = slice(None) if state.slots is None else state.slots
        places = torch.arange(count, device=ids.device)[None]
        if before:
            mask = state.mask(count)
            places = places + state.lengths[:, None]
        else:
            mask = _within_documents(begins)
            # Of places that turn queries and keys, only the distances count.
            if begins is not None and self.options.positions != "rotary":
                places = places - torch.where(begins, places, 0).cummax(1).values
        rotation, x = self._rotation(places), self._embed(ids, places)
        attend_anew = None if before else _from_the_start(x, mask, self.options.heads)
        layers: list[tuple[Tensor, Tensor]] = []

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if attend_anew is not None:  # padding is on the right, where nothing attends
                if not recompute:
                    layers.append((k, v))
                return attend_anew(q, k, v)
            keys, values = state.layers[len(layers)]
            keys[rows, :, before:end], values[rows, :, before:end] = k.to(keys), v.to(values)
            layers.append((keys, values))
            q = state.spread(q)
            return _attention(q, keys[:, :, :end], values[:, :, :end], attn_mask=mask)[rows]

        for block in self.blocks:
            call = partial(checkpoint, block, use_reentrant=False) if recompute else block
            x = call(x, attend, rotation)
        state.written[0] = end
        after = KeyValueState(layers, state.lengths + count, end, state.written, state.slots)
        if lengths is not None:
            padding = count - lengths.to(ids.device)
            after = replace(after.packed().aligned(padding), lengths=after.lengths - padding)
        return self._finish(x), after

    def start(self, rows: int) -> KeyValueState:
        """The state before the first id."""
        lengths = torch.zeros(rows, dtype=torch.long, device=self.embedding.device)
        return KeyValueState([], lengths, 0, [0])

    def trace(self, ids: Tensor) -> Trace:
        """The attention of every head in every layer, for ids (B, T), by explicit equations."""
        attention: list[Tensor] = []
        later = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).triu(1)
        places = torch.arange(ids.shape[1], device=ids.device)[None]
        rotation = self._rotation(places)
        shared = self.options.heads // self.options.shared_heads

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
            scores = q @ k.transpose(-1, -2) / math.sqrt(k.shape[-1])
            attention.append(scores.masked_fill(later, -math.inf).softmax(-1))
            return attention[-1] @ v

        x = self._embed(ids, places)
        for block in self.blocks:
            x = block(x, attend, rotation)
        return Trace(hidden=self._finish(x), attention=attention)

    def _embed(self, ids: Tensor, places: Tensor) -> Tensor:
        """ids (B, T), places (B or 1, T) → token and added position vectors (B, T, D)."""
        token = nn.functional.embedding(ids, self.embedding)
        if self.options.token_scale != 1:
            token = self.options.token_scale * token
        if self.options.positions == "rotary":
            return token
        return token + nn.functional.embedding(places, self.positions)

    def _rotation(self, places: Tensor) -> Rotation | None:
        """places (B or 1, T) → cosines and sines (B or 1, T, K/2) of their angles."""
        if self.options.positions != "rotary":
            return None
        cosines, sines = self.rotation
        return cosines[places], sines[places]

    def _finish(self, x: Tensor) -> Tensor:
        return x if self.norm is None else self.norm(x)

    def _initialize(self) -> None:
        """Initialize as GPT-2 does: normal weights, zero biases, and output matrices of the parts
        divided by the square root of their number, so that the sum keeps its size at any depth."""
        if self.embedding.is_meta:  # no values; to draw them, torch would import its compiler
            return
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=INITIAL_SPREAD)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            if name.startswith("blocks") and name.endswith("output.weight"):
                parameter.data /= math.sqrt(2 * self.options.layers)


def _norm(options: GPTOptions) -> nn.Module:
    kind = {"layer": nn.LayerNorm, "rms": RMSNorm}[options.normalization]
    return kind(options.width, options.norm_epsilon)


def _within_documents(begins: Tensor | None) -> Tensor | None:
    """begins (B, T): where documents begin → the places that each place may look at, those of its
    own document up to itself (Zhao et al. 2024), (B, 1, T, T); None: all up to itself."""
    if begins is None or not begins[:, 1:].any():
        return None
    document = begins.cumsum(1)
    return (document[:, :, None] == document[:, None]).tril_()[:, None]


def _from_the_start(x: Tensor, mask: Tensor | None, heads: int) -> Attend:
    """Attention among the places of x (B, T, D): each to those of the mask, or to all up to itself.

    On a processor, PyTorch's kernel pays for long texts. For shorter ones, the product of all
    queries with all keys takes less time: with bf16, less than half.
    """
    count = x.shape[1]
    if x.device.type != "cpu" or count > BY_PRODUCTS:
        return partial(_attention, is_causal=mask is None, attn_mask=mask)
    if mask is None:
        return partial(_by_products, torch.full((count, count), -math.inf).triu(1))
    hidden = mask.to(product_dtype(x)).sub_(1).mul_(HIDDEN)  # which takes less time than to choose
    return partial(_by_products, hidden.expand(-1, heads, -1, -1).flatten(0, 1))


def _by_products(added: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(Q·Kᵀ/√K + added)·V; added: (T, T), or (B·H, T, T)."""
    if q.shape[1] != k.shape[1]:
        k, v = (part.repeat_interleave(q.shape[1] // part.shape[1], 1) for part in (k, v))
    # Of their own, so that what is kept for gradients grows by the same with each row.
    queries, keys, values = (part.contiguous().flatten(0, 1) for part in (q, k, v))
    scores = torch.baddbmm(added, queries, keys.mT, alpha=1 / math.sqrt(q.shape[-1]))
    found = scores.softmax(-1) @ values
    return found.unflatten(0, q.shape[:2])


def _attention(q: Tensor, k: Tensor, v: Tensor, **how: Any) -> Tensor:
    """softmax(Q·Kᵀ/√K + mask)·V, by PyTorch's kernels."""
    shared = q.shape[1] != k.shape[1]
    if q.device.type != "cpu":
        q, k = q.to(v.dtype), k.to(v.dtype)  # norms and rotations leave float32 under autocast
        return scaled_dot_product_attention(q, k, v, enable_gqa=shared, **how)
    with torch.autocast("cpu", enabled=False):  # its kernel takes three times as long for bf16
        q, k, v = q.float(), k.float(), v.float()
        return scaled_dot_product_attention(q, k, v, enable_gqa=shared, **how)
