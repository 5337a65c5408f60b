"""The attention family without torch: a GPT's weights as a NumPy backend.

The equations are those of `models/gpt.py`, against which this backend is checked. It is made for
one token per row at a time, where starting each of torch's operations takes as long as the
arithmetic of a small model.

Letters: B batch, T time, D width, V vocabulary, H heads, K key width, U value width of a head,
C columns of a state, S slots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from textwright.backends.weights import Floats, NumpyWeights, Output, product
from textwright.families import GPTOptions

Ids = NDArray[np.int64]
Waves = tuple[Floats, Floats] | None  # cosines and sines (N, 1, K/2) of the places in work

_ROOM = 64  # columns of a store that grows; for fewer, it would have to grow again and again
_GELU = np.float32(np.sqrt(2 / np.pi))


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

    def __init__(self, rows: _Rows, lengths: Ids) -> None:
        self.rows = rows
        self.lengths = lengths  # (B,) ids read so far
        self.store = rows.leases[0].store

    @classmethod
    def of(cls, layers: list[tuple[Floats, Floats]], lengths: Ids) -> Self:
        """The state of rows whose keys and values fill new arrays."""
        store = _Store(layers, lengths.copy())
        return cls(_Rows([_Lease(store, slot) for slot in range(len(lengths))]), lengths)

    def select(self, rows: ArrayLike) -> Self:
        """The state of these rows, in this order; a row may be named twice."""
        rows = np.asarray(rows, np.int64)
        leases = [self.rows.leases[row] for row in rows.tolist()]
        return type(self)(_Rows(leases), self.lengths[rows])

    @classmethod
    def concat(cls, states: Sequence[Self]) -> Self:
        """One state of all rows, in order; the rows of smaller stores move to the largest."""
        store = max((state.store for state in states), key=lambda store: len(store.ends))
        leases: list[_Lease] = []
        for state in states:
            rows, own = state.rows, state.store is store
            leases += rows.leases if own else store.take(state.store, rows.slots, state.lengths)
        return cls(_Rows(leases), np.concatenate([state.lengths for state in states]))

    @property
    def nbytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self.store.layers)

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
        after = type(self)(rows, self.lengths + 1)
        store.reserve(0, int(after.lengths.max()))
        store.ends[rows.slots] = after.lengths
        return after


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
        view = _View(after)
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


class _View:
    """The slots up to the last that a state names, and the columns up to its longest row's end.

    Attention is computed for all of these slots; what it finds for those of no row is dropped,
    which costs less than to gather the keys and values of the others.
    """

    def __init__(self, state: NumpyKeyValueState) -> None:
        self.rows, self.newest = state.rows, state.lengths - 1
        self.columns = int(state.lengths.max())
        self.foreign: NDArray[np.bool_] | None = None  # (S, 1, C): columns to be ignored
        ends = state.store.ends[: self.rows.count]
        if ends.min() < self.columns:
            self.foreign = np.arange(self.columns) >= np.maximum(ends, 1)[:, None, None]

    def of(self, array: Floats, newest: Floats) -> Floats:
        """What is seen of keys or values, with the newest (B, G, …) in the last column."""
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

    def step(self, x: Floats, keys: Floats, values: Floats, view: _View, waves: Waves) -> Floats:
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
        scores = q @ np.swapaxes(all_k, 2, 3)  # (B, H, T, C + T)
        later = np.triu(np.ones(scores.shape[2:], bool), 1 + k.shape[2] - q.shape[2])
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
