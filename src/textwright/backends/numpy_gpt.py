"""The attention family without torch: a GPT's weights as a NumPy backend.

The equations are those of `models/gpt.py`, against which this backend is checked. It is made for
one token per row at a time, where starting each of torch's operations takes as long as the
arithmetic of a small model.

Letters: B batch, T time, D width, V vocabulary, H heads, K key width, U value width of a head,
C columns of a state.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from textwright.backends.weights import Floats, NumpyWeights, product
from textwright.families import GPTOptions

Ids = NDArray[np.int64]
Waves = tuple[Floats, Floats] | None  # cosines and sines (N, 1, K/2) of the places in work

_GELU = np.float32(np.sqrt(2 / np.pi))


@dataclass
class NumpyKeyValueState:
    """Keys and values of all ids that each row has read, one column per id.

    All rows end in the same column; a row owns the last `lengths` columns. New columns are written
    after the old ones, into arrays that states share; a state from which reading continues a second
    time is copied first.
    """

    layers: list[tuple[Floats, Floats]]  # keys (B, G, room, K), values (B, G, room, U)
    lengths: Ids  # (B,) ids read so far
    columns: int  # C: the longest row's length
    written: list[int]  # columns written by any of the states that share these arrays

    def select(self, rows: ArrayLike) -> Self:
        """The state of these rows, in this order; a row may be named twice."""
        rows = np.asarray(rows, np.int64)
        lengths = self.lengths[rows]
        columns = int(lengths.max())
        own = slice(self.columns - columns, self.columns)
        layers = [(keys[rows, :, own], values[rows, :, own]) for keys, values in self.layers]
        return type(self)(layers, lengths, columns, [columns])

    @classmethod
    def concat(cls, states: Sequence[Self]) -> Self:
        """One state of all rows, in order."""
        columns = max(state.columns for state in states)

        def join(arrays: Sequence[Floats]) -> Floats:
            shape = (sum(map(len, arrays)), arrays[0].shape[1], columns, arrays[0].shape[3])
            joined, row = np.zeros(shape, np.float32), 0
            for array, state in zip(arrays, states, strict=True):
                kept = array[:, :, : state.columns]
                joined[row : row + len(array), :, columns - state.columns :] = kept
                row += len(array)
            return joined

        layers = []
        for pairs in zip(*(state.layers for state in states), strict=True):
            keys, values = zip(*pairs, strict=True)
            layers.append((join(keys), join(values)))
        lengths = np.concatenate([state.lengths for state in states])
        return cls(layers, lengths, columns, [columns])

    @property
    def nbytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)

    def with_column(self) -> Self:
        """The state after one more id per row, with a free column for it."""
        layers, columns = self.layers, self.columns
        if self.written[0] != columns or columns == layers[0][0].shape[2]:
            layers = [
                (_roomier(keys, columns), _roomier(values, columns)) for keys, values in layers
            ]
            written = [columns + 1]
        else:
            written = self.written
            written[0] = columns + 1
        return type(self)(layers, self.lengths + 1, columns + 1, written)


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
        output, self._output_bias = self._embedding, None
        if not options.tie_output:
            output = named.take("output.weight", (self.vocab_size, width))
        if options.output_bias:
            self._output_bias = named.take("output.bias", (self.vocab_size,))
        named.refuse_others()
        self._output = np.ascontiguousarray(output.T)

    def prefill(self, ids: Ids, lengths: Ids) -> tuple[Floats, NumpyKeyValueState]:
        """ids (B, T) padded on the right, lengths (B,) ≥ 1 → logits after each row (B, V)."""
        lengths = np.asarray(lengths, np.int64)
        reads, order = [], []
        for length in np.unique(lengths):  # rows of equal length together, so that none is padded
            rows = np.flatnonzero(lengths == length)
            reads.append(self._read(np.asarray(ids)[rows, :length]))
            order.append(rows)
        back = np.argsort(np.concatenate(order))
        hidden = np.concatenate([hidden for hidden, _ in reads])[back]
        return self._project(hidden), NumpyKeyValueState.concat([s for _, s in reads]).select(back)

    def step(self, ids: Ids, state: NumpyKeyValueState) -> tuple[Floats, NumpyKeyValueState]:
        """Read one more id per row, (B,) → logits (B, V)."""
        x, waves = self._embed(ids, state.lengths), self._waves_at(state.lengths)
        after = state.with_column()
        foreign = None
        if after.lengths.min() < after.columns:
            starts = after.columns - after.lengths
            foreign = np.arange(after.columns) < starts[:, None, None]  # (B, 1, C)
        for block, (keys, values) in zip(self._blocks, after.layers, strict=True):
            own = keys[:, :, : after.columns], values[:, :, : after.columns]
            x = block.step(x, *own, foreign, waves)
        return self._project(self._finish(x)), after

    def _read(self, ids: Ids) -> tuple[Floats, NumpyKeyValueState]:
        """ids (B, T), no padding → the last hidden vectors (B, D), and the state."""
        rows, count = ids.shape
        places = np.arange(count)
        x, waves = self._embed(ids, places), self._waves_at(places)
        layers = []
        for block in self._blocks:
            x, keys, values = block.read(x, waves)
            layers.append((keys, values))
        lengths = np.full(rows, count, np.int64)
        return self._finish(x[:, -1]), NumpyKeyValueState(layers, lengths, count, [count])

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

    def _project(self, hidden: Floats) -> Floats:
        logits = product(hidden, self._output)
        if self._output_bias is not None:
            logits += self._output_bias
        return logits


class _Block:
    """Attention and feed-forward of one block."""

    def __init__(self, named: NumpyWeights, prefix: str, options: GPTOptions) -> None:
        width, heads = options.width, options.heads
        (key, value), wide = options.head_widths, options.inner_width
        shared, bias, epsilon = options.shared_heads, options.biases, options.norm_epsilon
        self.heads, self.pre = [heads, shared, shared], options.norm == "pre"
        self.group = heads // shared
        self.activate = {"relu": _relu, "gelu": _gelu, "swiglu": _swiglu}[options.activation]
        self.splits = [heads * key, (heads + shared) * key]
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

    def step(
        self, x: Floats, keys: Floats, values: Floats, foreign: NDArray | None, waves: Waves
    ) -> Floats:
        """x (B, D), keys and values with a free last column; foreign (B, 1, C): to be ignored."""
        q, k, v = self._queries_keys_values(x, waves)  # (B, H or G, K or U)
        keys[:, :, -1], values[:, :, -1] = k, v
        q *= self.scale
        if self.group == 1:
            scores: Floats = (keys @ q[..., None])[..., 0]  # (B, H, C)
            if foreign is not None:
                np.copyto(scores, np.float32(-np.inf), where=foreign)
            found = _softmax(scores)[:, :, None] @ values  # (B, H, 1, U)
        else:
            grouped = q.reshape(len(x), -1, self.group, q.shape[-1])  # (B, G, H/G, K)
            scores = grouped @ np.swapaxes(keys, 2, 3)  # (B, G, H/G, C)
            if foreign is not None:
                np.copyto(scores, np.float32(-np.inf), where=foreign[:, :, None])
            found = _softmax(scores) @ values  # (B, G, H/G, U)
        return self._add(x, found.reshape(len(x), -1))

    def read(self, x: Floats, waves: Waves) -> tuple[Floats, Floats, Floats]:
        """x (B, T, D) → the block's output, keys (B, G, T, K), values (B, G, T, U)."""
        q, k, v = (np.swapaxes(part, 1, 2) for part in self._queries_keys_values(x, waves))
        q *= self.scale
        all_k, all_v = (
            np.repeat(part, self.group, 1) if self.group > 1 else part for part in (k, v)
        )
        scores = q @ np.swapaxes(all_k, 2, 3)  # (B, H, T, T)
        later = np.triu(np.ones(scores.shape[2:], bool), 1)
        np.copyto(scores, np.float32(-np.inf), where=later)
        found = np.swapaxes(_softmax(scores) @ all_v, 1, 2)
        return self._add(x, found.reshape(*x.shape[:2], -1)), k, v

    def _queries_keys_values(self, x: Floats, waves: Waves) -> list[Floats]:
        """x (…, D) → queries (…, H, K), keys (…, G, K), values (…, G, U)."""
        given = self.attention_input(self.attention_norm(x) if self.pre else x)
        parts = zip(np.split(given, self.splits, axis=-1), self.heads, strict=True)
        q, k, v = (part.reshape(*x.shape[:-1], heads, -1) for part, heads in parts)
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
    gate, up = np.split(x, 2, axis=-1)
    gated = np.exp(-gate)
    gated += 1
    np.divide(gate, gated, out=gated)
    gated *= up
    return gated


def _rotated(x: Floats, waves: Waves) -> Floats:
    """Turn each pair (x_i, x_{i+K/2}) of x (…, heads, K) by the angle of its place."""
    if waves is None:
        return x
    cosines, sines = waves
    first, second = np.split(x, 2, axis=-1)
    turned = np.empty_like(x)
    half = first.shape[-1]
    np.subtract(first * cosines, second * sines, out=turned[..., :half])
    np.add(second * cosines, first * sines, out=turned[..., half:])
    return turned


def rotary_waves(options: GPTOptions) -> tuple[Floats, Floats]:
    """Cosines and sines (C, K/2) of the angles of each place (Su et al. 2021)."""
    places = np.arange(options.context_length, dtype=np.float32)
    plain, stretch = rotary_frequencies(options)
    angles = places[:, None] * (plain / stretch)
    return np.cos(angles), np.sin(angles)


def rotary_frequencies(options: GPTOptions) -> tuple[Floats, Floats]:
    """Radians from place to place of each pair (K/2,), and by what to divide them (K/2,).

    Llama 3 stretches the waves that do not fit `rotary_low` times into the original context, keeps
    those that fit `rotary_high` times, and interpolates between the two.
    """
    width = options.head_widths[0]
    pairs = np.arange(0, width, 2, dtype=np.float32)
    frequencies = 1 / np.float32(options.rotary_base) ** (pairs / np.float32(width))
    low, high = options.rotary_low, options.rotary_high
    fits = options.rotary_original * frequencies / (2 * np.pi)
    kept = np.clip((fits - low) / (high - low), 0, 1)
    stretch = 1 / ((1 - kept) / options.rotary_factor + kept)
    return frequencies.astype(np.float32), stretch.astype(np.float32)


def sinusoids(count: int, width: int) -> Floats:
    """Positions (count, width) as waves of falling frequency, sine and cosine (Vaswani et al.)."""
    pairs = np.arange(0, width, 2)
    angles = np.arange(count)[:, None] * np.exp(-np.log(10_000) * pairs / width)
    waves = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(count, -1)
    return waves[:, :width].astype(np.float32)


def _roomier(array: Floats, columns: int) -> Floats:
    """A copy with room for twice as many columns."""
    rows, heads, _, width = array.shape
    larger = np.zeros((rows, heads, 2 * columns, width), np.float32)
    larger[:, :, :columns] = array[:, :, :columns]
    return larger
