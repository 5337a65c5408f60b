"""The attention family without torch: a GPT's weights as a NumPy backend.

The equations are those of `models/gpt.py`, against which this backend is checked. It is made for
one token per row at a time, where starting each of torch's operations takes as long as the
arithmetic of a small model.

Letters: B batch, T time, D width, V vocabulary, H heads, K key width, U value width of a head,
C columns of a state, S slots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from textwright.backends.key_values import NumpyKeyValueState, View
from textwright.backends.positions import rotary_waves, sinusoids
from textwright.backends.weights import Floats, Ids, NumpyWeights, Output, product
from textwright.families import GPTOptions

Waves = tuple[Floats, Floats] | None  # cosines and sines (N, 1, K/2) of the places in work

QUERIES = 256  # whose scores are computed together: those of a whole long prompt fill the memory
_GELU = np.float32(np.sqrt(2 / np.pi))


class NumpyGPT:
    """A GPT's weights as a backend."""

    def __init__(self, weights: Mapping[str, NDArray[np.floating]], options: GPTOptions) -> None:
        """weights: by canonical name · options: with their context length set.

        Raises RunError if names or shapes do not fit the options.
        """
        named = NumpyWeights(weights)
        width = options.width
        self.context_length: int | None = options.context_length
        self._embedding = named.take("embedding", (None, width))
        self._scale = np.float32(options.token_scale)
        self.vocab_size = len(self._embedding)
        self._positions: Floats | None = None
        self._waves: tuple[Floats, Floats] | None = None
        if options.positions == "learned":
            self._positions = named.take("positions", (options.context_length, width))
        elif options.positions == "sinusoidal":
            self._positions = sinusoids(options.context_length, width)
        else:
            self._waves = rotary_waves(options)
        self._blocks = [_Block(named, f"blocks.{i}.", options) for i in range(options.layers)]
        self._norm = _norm(named, "norm.", options) if options.norm == "pre" else None
        output, bias = self._embedding, None
        if not options.tie_output:
            output = named.take("output.weight", (self.vocab_size, width))
        if options.output_bias:
            bias = named.take("output.bias", (self.vocab_size,))
        named.refuse_others()
        self._project = Output(output, bias)

    def prefill(self, ids: Ids, lengths: Ids) -> tuple[Floats, NumpyKeyValueState]:
        """ids (B, T) padded on the right, lengths (B,) ≥ 1 → logits after each row (B, V)."""
        lengths = np.asarray(lengths, np.int64)
        reads, groups = [], _alike(lengths)
        for rows in groups:
            x, state = self._read(np.asarray(ids)[rows, : lengths[rows[0]]])
            reads.append((x[:, -1], state))
        hidden, state = _in_order(reads, groups)
        return self._project(self._finish(hidden)), state

    def step(self, ids: Ids, state: NumpyKeyValueState) -> tuple[Floats, NumpyKeyValueState]:
        """Read one more id per row, (B,) → logits (B, V)."""
        x, waves = self._embed(ids, state.lengths), self._waves_at(state.lengths)
        after = state.with_column()
        view = View(after)
        for block, (keys, values) in zip(self._blocks, after.store.layers, strict=True):
            x = block.step(x, keys, values, view, waves)
        return self._project(self._finish(x)), after

    def follow(self, ids: Ids, state: NumpyKeyValueState) -> tuple[Floats, NumpyKeyValueState]:
        """Read more ids of each row, (B, T) → logits after each of them (B, T, V)."""
        groups = _alike(state.lengths)
        reads = [self._read(np.asarray(ids)[rows], state.select(rows)) for rows in groups]
        hidden, state = _in_order(reads, groups)
        flat = self._finish(hidden).reshape(ids.size, -1)
        return self._project(flat).reshape(*ids.shape, -1), state

    def _read(
        self, ids: Ids, state: NumpyKeyValueState | None = None
    ) -> tuple[Floats, NumpyKeyValueState]:
        """ids (B, T), no padding, after a state of rows of one length → what the blocks make of
        them (B, T, D), and the state after them."""
        rows, count = ids.shape
        before = 0 if state is None else int(state.lengths[0])
        places = before + np.arange(count)
        x, waves = self._embed(ids, places), self._waves_at(places)
        layers = []
        for number, block in enumerate(self._blocks):
            x, keys, values = block.read(x, waves, None if state is None else state.columns(number))
            layers.append((keys, values))
        return x, NumpyKeyValueState.of(layers, np.full(rows, before + count, np.int64))

    def _embed(self, ids: Ids, places: Ids) -> Floats:
        """ids (…), places of the last axis → scaled token and added position vectors (…, D)."""
        tokens = self._embedding[ids]
        if self._scale != 1:
            tokens *= self._scale
        if self._positions is not None:
            tokens += self._positions[places]
        return tokens

    def _waves_at(self, places: Ids) -> tuple[Floats, Floats] | None:
        """places (N,) → cosines and sines (N, 1, K/2), for all heads."""
        if self._waves is None:
            return None
        cosines, sines = self._waves
        return cosines[places][:, None], sines[places][:, None]

    def _finish(self, x: Floats) -> Floats:
        return x if self._norm is None else self._norm(x)


def _alike(lengths: Ids) -> list[Ids]:
    """The rows of each length, which are read together, so that none is padded."""
    return [np.flatnonzero(lengths == length) for length in np.unique(lengths)]


def _in_order(
    reads: Sequence[tuple[Floats, NumpyKeyValueState]], groups: list[Ids]
) -> tuple[Floats, NumpyKeyValueState]:
    """What was read of groups of rows, as one, in the order of the rows."""
    if len(reads) == 1:
        return reads[0]
    back = np.argsort(np.concatenate(groups))
    hidden = np.concatenate([hidden for hidden, _ in reads])[back]
    return hidden, NumpyKeyValueState.concat([state for _, state in reads]).select(back)


class _Block:
    """Attention and feed-forward of one block."""

    def __init__(self, named: NumpyWeights, prefix: str, options: GPTOptions) -> None:
        width, heads = options.width, options.heads
        (key, value), wide = options.head_widths, options.inner_width
        shared, bias, epsilon = options.shared_heads, options.biases, options.norm_epsilon
        self.heads, self.pre = [heads, shared, shared], options.norm == "pre"
        self.group = heads // shared
        self.activate = {"relu": _relu, "gelu": _gelu, "swiglu": _swiglu}[options.activation]
        ends = [0, heads * key, (heads + shared) * key, None]
        self.parts = [slice(begin, end) for begin, end in pairwise(ends)]
        self.scale = np.float32(key**-0.5)
        inputs, outputs = (heads + shared) * key + shared * value, heads * value
        doubled = 2 * wide if options.activation == "swiglu" else wide
        self.attention_input = _Linear(
            named, prefix + "attention.input.", width, inputs, bias != "none"
        )
        self.attention_output = _Linear(
            named, prefix + "attention.output.", outputs, width, bias == "all"
        )
        self.attention_norm = _norm(named, prefix + "attention_norm.", options)
        self.feedforward_input = _Linear(
            named, prefix + "feedforward.input.", width, doubled, bias == "all"
        )
        self.feedforward_output = _Linear(
            named, prefix + "feedforward.output.", wide, width, bias == "all"
        )
        self.feedforward_norm = _norm(named, prefix + "feedforward_norm.", options)
        self.query_norm = self.key_norm = None
        if options.query_key_norm:
            self.query_norm = _RMSNorm(named, prefix + "attention.query_norm.", key, epsilon)
            self.key_norm = _RMSNorm(named, prefix + "attention.key_norm.", key, epsilon)

    def step(self, x: Floats, keys: Floats, values: Floats, view: View, waves: Waves) -> Floats:
        """x (B, D); keys and values of all slots, with a free column for each row."""
        q, k, v = self._queries_keys_values(x, waves)  # (B, H or G, K or U)
        keys, values = view.of(keys, k), view.of(values, v)
        q *= self.scale
        q = view.spread(q)
        if self.group == 1:
            scores: Floats = (keys @ q[..., None])[..., 0]  # (S, H, C)
            if view.foreign is not None:
                np.copyto(scores, np.float32(-np.inf), where=view.foreign)
            found = _softmax(scores)[:, :, None] @ values  # (S, H, 1, U)
        else:
            grouped = q.reshape(len(q), -1, self.group, q.shape[-1])  # (S, G, H/G, K)
            scores = grouped @ np.swapaxes(keys, 2, 3)  # (S, G, H/G, C)
            if view.foreign is not None:
                np.copyto(scores, np.float32(-np.inf), where=view.foreign[:, :, None])
            found = _softmax(scores) @ values  # (S, G, H/G, U)
        return self._add(x, view.gather(found).reshape(len(x), -1))

    def read(
        self, x: Floats, waves: Waves, before: tuple[Floats, Floats] | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """x (B, T, D), after the keys and values of C earlier ids → the block's output, and all
        keys (B, G, C + T, K) and values (B, G, C + T, U)."""
        q, k, v = (np.swapaxes(part, 1, 2) for part in self._queries_keys_values(x, waves))
        if before is not None:
            k, v = np.concatenate([before[0], k], 2), np.concatenate([before[1], v], 2)
        q *= self.scale
        all_k, all_v = (
            np.repeat(part, self.group, 1) if self.group > 1 else part for part in (k, v)
        )
        found = np.empty((*q.shape[:3], v.shape[-1]), np.float32)
        for first in range(0, q.shape[2], QUERIES):
            some = q[:, :, first : first + QUERIES]  # (B, H, S, K)
            seen = k.shape[2] - q.shape[2] + first + some.shape[2]
            scores = some @ np.swapaxes(all_k[:, :, :seen], 2, 3)  # (B, H, S, seen)
            later = np.triu(np.ones(scores.shape[2:], bool), 1 + seen - some.shape[2])
            np.copyto(scores, np.float32(-np.inf), where=later)
            found[:, :, first : first + QUERIES] = _softmax(scores) @ all_v[:, :, :seen]
        return self._add(x, np.swapaxes(found, 1, 2).reshape(*x.shape[:2], -1)), k, v

    def _queries_keys_values(self, x: Floats, waves: Waves) -> list[Floats]:
        """x (…, D) → queries (…, H, K), keys (…, G, K), values (…, G, U)."""
        given = self.attention_input(self.attention_norm(x) if self.pre else x)
        parts = zip(self.parts, self.heads, strict=True)
        q, k, v = (given[..., part].reshape(*x.shape[:-1], heads, -1) for part, heads in parts)
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        return [_rotated(q, waves), _rotated(k, waves), v]

    def _add(self, x: Floats, found: Floats) -> Floats:
        """The outputs of attention and feed-forward, added to x."""
        attended = x + self.attention_output(found)
        if self.pre:
            inside = self.feedforward_input(self.feedforward_norm(attended))
            return attended + self.feedforward_output(self.activate(inside))
        attended = self.attention_norm(attended)
        inside = self.feedforward_input(attended)
        return self.feedforward_norm(attended + self.feedforward_output(self.activate(inside)))


class _Linear:
    """x (…, inputs) → x·Wᵀ + b (…, outputs)."""

    def __init__(
        self, named: NumpyWeights, prefix: str, inputs: int, outputs: int, bias: bool
    ) -> None:
        self.weight = np.ascontiguousarray(named.take(prefix + "weight", (outputs, inputs)).T)
        self.bias = named.take(prefix + "bias", (outputs,)) if bias else None

    def __call__(self, x: Floats) -> Floats:
        outputs = product(x, self.weight)
        if self.bias is not None:
            outputs += self.bias
        return outputs


def _norm(named: NumpyWeights, prefix: str, options: GPTOptions) -> Callable[[Floats], Floats]:
    if options.normalization == "rms":
        return _RMSNorm(named, prefix, options.width, options.norm_epsilon)
    return _LayerNorm(named, prefix, options)


class _RMSNorm:
    """x / √(mean of x² + ε), scaled, over the last axis (Zhang & Sennrich 2019)."""

    def __init__(self, named: NumpyWeights, prefix: str, width: int, epsilon: float) -> None:
        self.weight = named.take(prefix + "weight", (width,))
        self.epsilon = np.float32(epsilon)

    def __call__(self, x: Floats) -> Floats:
        squares = np.einsum("...d,...d->...", x, x)[..., None] / np.float32(x.shape[-1])
        normed = x / np.sqrt(squares + self.epsilon)
        normed *= self.weight
        return normed


class _LayerNorm:
    """Layer normalization over the last axis (Ba et al. 2016)."""

    def __init__(self, named: NumpyWeights, prefix: str, options: GPTOptions) -> None:
        self.weight = named.take(prefix + "weight", (options.width,))
        self.bias = named.take(prefix + "bias", (options.width,))
        self.epsilon = np.float32(options.norm_epsilon)

    def __call__(self, x: Floats) -> Floats:
        centered = x - x.mean(-1, keepdims=True)
        variance = np.einsum("...d,...d->...", centered, centered)[..., None] / x.shape[-1]
        centered /= np.sqrt(variance + self.epsilon)
        centered *= self.weight
        centered += self.bias
        return centered


def _softmax(scores: Floats) -> Floats:
    scores -= scores.max(-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(-1, keepdims=True)
    return scores


def _relu(x: Floats) -> Floats:
    return np.maximum(x, 0, out=x)


def _gelu(x: Floats) -> Floats:
    """x·Φ(x) in the tanh form (Hendrycks & Gimpel 2016)."""
    inner = _GELU * (x + np.float32(0.044715) * x * x * x)
    np.tanh(inner, out=inner)
    inner += 1
    inner *= np.float32(0.5) * x
    return inner


def _swiglu(x: Floats) -> Floats:
    """SiLU of the first half, times the second half (Shazeer 2020)."""
    gate, up = _halves(x)
    gated = np.tanh(np.float32(0.5) * gate)  # σ(x) = ½ + ½ tanh(x/2), which cannot overflow
    gated += 1
    gated *= np.float32(0.5) * gate
    gated *= up
    return gated


def _rotated(x: Floats, waves: Waves) -> Floats:
    """Turn each pair (x_i, x_{i+K/2}) of x (…, heads, K) by the angle of its place."""
    if waves is None:
        return x
    cosines, sines = waves
    first, second = _halves(x)
    turned = np.empty_like(x)
    left, right = _halves(turned)
    np.subtract(first * cosines, second * sines, out=left)
    np.add(second * cosines, first * sines, out=right)
    return turned


def _halves(x: Floats) -> tuple[Floats, Floats]:
    """Views of both halves of the last axis; `np.split` takes as long as the arithmetic."""
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half:]
