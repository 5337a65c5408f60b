"""The steps of sampling, each a function of logits (…, V): of one row, or of many at once.

What a step makes of a row does not depend on the rows beside it, to the bit. Those that change
single logits do it in place; of these, those that look at a row's own ids take one row. The filters
return a new array or, if they change nothing, the one they were given. A banned token has the logit
-inf. `sampling.py` puts the steps in order.

Letters: B rows, V vocabulary, N tokens among which a filter chooses.
"""

from collections.abc import Sequence
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textwright.errors import GenerationError

Logits = NDArray[np.float32]
Ids = NDArray[np.int64]

# Sums of float32 probabilities are not exact below this: a sum that misses its share by less has
# reached it. So probabilities .5, .3, .2 under top-p .8 keep two tokens, not three.
RESOLUTION = 1e-6
_BLOCK = 128  # tokens whose weights are summed first
_FEW = 3  # rows, from which on it is faster to draw all at once
_FAR = 30  # a largest logit farther from 0 is moved there, so that exp stays within float32


class NoTokenLeftError(GenerationError):
    """Every token is banned, so a text cannot go on."""

    def __init__(self) -> None:
        super().__init__(
            "No token is left to choose: forbid fewer tokens, or loosen no_repeat_ngram, "
            "no_copy or min_new_tokens."
        )


def add_bias(logits: Logits, bias: dict[Any, float]) -> None:
    """Add to the logit of each id its number in `bias`, whose keys are ids; in place."""
    logits[..., list(bias)] += np.fromiter(bias.values(), logits.dtype, len(bias))


def ban(logits: Logits, ids: Any) -> None:
    """Set the logits of `ids` to -inf, in place."""
    logits[..., ids] = -inf


@np.errstate(over="ignore", divide="ignore")  # a penalty without measure bans, or is refused later
def penalize_repetition(logits: Logits, ids: Ids, penalty: float) -> None:
    """Divide the logit of each seen token by `penalty` if it is above zero, else multiply it; in
    place.

    A token is penalized once, however often it occurs. Keskar et al. 2019 (CTRL), with the sign
    treated as in all implementations since.
    """
    seen = logits[ids]
    logits[ids] = np.where(seen < 0, seen * penalty, seen / penalty)


@np.errstate(over="ignore")
def penalize_counts(logits: Logits, text_ids: Ids, presence: float, frequency: float) -> None:
    """logit − presence·[count > 0] − frequency·count, counted in the text, as in OpenAI's API; in
    place."""
    seen, counts = np.unique(text_ids, return_counts=True)
    logits[seen] -= (presence + frequency * counts).astype(logits.dtype)


def repeating_ids(ids: Ids, n: int) -> Ids:
    """The ids that, written next, would complete an n-gram that `ids` (T,) already contains."""
    if n == 1 or len(ids) < n:
        return ids[: len(ids) if n == 1 else 0]
    windows = np.lib.stride_tricks.sliding_window_view(ids, n)
    same = (windows[:, :-1] == ids[len(ids) - n + 1 :]).all(axis=1)
    return windows[same, -1]


def temper(logits: Logits, temperature: float, out: Logits | None = None) -> Logits:
    """log p / T, up to a constant.

    0 leaves only the likeliest token (of equals, the lowest id); inf makes all tokens that are not
    banned equally likely. out: an array for the result, which may be that of the logits.
    """
    top = peak(logits)
    if temperature == 0.0:
        best = np.arange(logits.shape[-1]) == logits.argmax(-1)[..., None]
        return np.where(best, logits, np.float32(-inf))
    if temperature == inf:
        return np.where(logits > -inf, np.float32(0), np.float32(-inf))
    # The peak is moved to zero first: then nothing overflows upwards, and the likeliest tokens,
    # which matter most, lose no digits. Beyond 1e±30, float32 would turn T itself into 0 or inf.
    tempered = np.subtract(logits, top, out=out)
    tempered /= min(max(temperature, 1e-30), 1e30)
    return tempered


def keep_top_k(logits: Logits, k: int) -> Logits:
    """Keep the k largest logits, and all that equal the k-th."""
    return _at_least(logits, _largest(logits, k)) if k < logits.shape[-1] else logits


def keep_top_p(logits: Logits, p: float, least: int = 1) -> Logits:
    """Keep the fewest likeliest tokens that together have probability p or more.

    Of equals, lower ids come first. At least `least` tokens stay, whatever p is. Nucleus sampling,
    Holtzman et al. 2020.
    """
    weights = _weights(logits)
    total = weights.sum(-1, dtype=np.float64, keepdims=True)
    # Tokens below (1-p)/V have less than 1-p together, so the others reach p without them: only
    # the others need sorting, and the result is the same.
    floor = (1.0 - p) / logits.shape[-1] * total
    if least > 1:
        floor = np.minimum(floor, _largest(weights, least))
    likely = weights >= floor
    # The bits of positive floats, read as integers, have the same order as the floats.
    order = -weights[likely].view(np.int32).astype(np.int64)
    return _keep_first(logits, likely, order, weights, p * total, least)


def keep_min_p(logits: Logits, min_p: float, least: int = 1) -> Logits:
    """Keep tokens whose probability is `min_p` times the largest, or more (Nguyen et al. 2024).

    The `least` likeliest tokens stay, whatever min_p is.
    """
    floor = peak(logits) + np.float32(np.log(min_p) - RESOLUTION)
    return _at_least(logits, np.minimum(floor, _largest(logits, least)) if least > 1 else floor)


def keep_typical(logits: Logits, p: float, least: int = 1) -> Logits:
    """Keep the tokens whose surprise is nearest the entropy, until they together reach p.

    Distances are compared to 1e-6 nats; of equals, lower ids come first. At least `least` tokens
    stay, whatever p is. Typical sampling, Meister et al. 2022.
    """
    top = peak(logits)
    weights = np.exp(logits - top)
    possible = weights > 0
    total = weights.sum(-1, dtype=np.float64, keepdims=True)
    surprise = np.subtract(np.log(total) + top, logits, dtype=np.float64)
    surprise[~possible] = 0.0
    entropy = (weights * surprise).sum(-1, keepdims=True) / total
    distance = np.rint(np.abs(surprise - entropy) / RESOLUTION)
    order = distance[possible].astype(np.int64)
    return _keep_first(logits, possible, order, weights, p * total, least)


def draw(logits: NDArray[np.floating], uniform: float) -> int:
    """The first id at which the cumulative probability exceeds `uniform`, which is in [0, 1).

    logits (V,). Weights and their sums in blocks are float32, sums of blocks and those within one
    float64. Raises NoTokenLeftError where every token is banned.
    """
    # A running sum over V is one long chain of additions; sums of blocks are faster. Find the block
    # by the running sum of blocks, then the id within the block.
    by_block = _weights_by_block(logits)
    ends = np.add.accumulate(np.einsum("kt->k", by_block), dtype=np.float64)
    target = uniform * ends.item(-1)
    block = min(int(ends.searchsorted(target, "right")), len(ends) - 1)
    if block:
        target -= ends.item(block - 1)
    running = np.add.accumulate(by_block[block], dtype=np.float64)
    place = int(running.searchsorted(target, "right"))
    if place == _BLOCK:  # the two sums differ in the last digit
        place = int(by_block[block].nonzero()[0][-1])
    return block * _BLOCK + place


def draw_rows(logits: NDArray[np.floating], uniforms: Sequence[float]) -> list[int]:
    """What `draw` gives for each row: logits (B, V), uniforms (B,)."""
    if len(logits) < _FEW:
        return [draw(row, uniform) for row, uniform in zip(logits, uniforms, strict=True)]
    by_block = _weights_by_block(logits)
    ends = np.add.accumulate(np.einsum("bkt->bk", by_block), 1, dtype=np.float64)
    rows, target = np.arange(len(ends)), (np.array(uniforms) * ends[:, -1])[:, None]
    block = np.minimum(np.add.reduce(ends <= target, 1), ends.shape[1] - 1)
    inside = by_block[rows, block]
    running = np.add.accumulate(inside, 1, dtype=np.float64)
    target = target - np.where(block, ends[rows, block - 1], 0.0)[:, None]
    place = np.add.reduce(running <= target, 1)
    if place.max() == _BLOCK:  # the two sums differ in the last digit
        beyond = place == _BLOCK
        place[beyond] = _BLOCK - 1 - (inside[beyond, ::-1] > 0).argmax(1)
    found: list[int] = (block * _BLOCK + place).tolist()
    return found


def _weights_by_block(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """logits (…, V) → probabilities up to a factor (…, blocks, _BLOCK), at the end 0."""
    *before, size = logits.shape
    blocks = -(-size // _BLOCK)
    weights = np.empty((*before, blocks * _BLOCK), logits.dtype)
    weights[..., size:] = 0
    _weights(logits, out=weights[..., :size])
    return weights.reshape(*before, blocks, _BLOCK)


def bits_without(logits: Logits, ids: Ids) -> float:
    """−log₂ of the probability that is left without `ids` (each once): what is added to the
    surprisal of a text, in bits, by a rule that forbids them. inf if none is left."""
    left = np.delete(logits, ids)
    if not len(left):
        return inf
    top = peak(logits)[0]
    kept = np.exp(left - top, dtype=np.float64).sum()
    whole = kept + np.exp(logits[ids] - top, dtype=np.float64).sum()
    return float(np.log2(whole) - np.log2(kept)) if kept else inf


def draw_several(scores: NDArray[np.floating], uniforms: NDArray[np.float64]) -> list[int]:
    """Draw places without replacement, each in proportion to exp(score) among those left.

    One place for each uniform; fewer where fewer places have a score above -inf.
    """
    scores = scores.copy()
    drawn = []
    for uniform in uniforms[: np.count_nonzero(scores > -inf)]:
        drawn.append(draw(scores, uniform))
        scores[drawn[-1]] = -inf
    return drawn


def peak(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """The largest logit of each row, (…, 1).

    Raises NoTokenLeftError where all of a row are banned, GenerationError where one is not a
    number.
    """
    top: NDArray[np.floating] = np.maximum.reduce(logits, axis=-1, keepdims=True)
    if not isfinite(top.sum()) and not np.isfinite(top).all():
        raise trouble(float(top[~np.isfinite(top)][0]))
    return top


def trouble(top: float) -> GenerationError:
    """What is wrong with a row whose largest logit is not finite."""
    if top == -inf:
        return NoTokenLeftError()
    return GenerationError(
        "The model's logits are not finite numbers: its training diverged or its file is damaged; "
        "use an earlier checkpoint."
    )


def likeliest_ids(values: NDArray[np.floating], count: int) -> Ids:
    """The ids of the `count` largest values (V,), the largest first; of equals, lower ids first."""
    if count == 1:  # the usual question
        return np.array([values.argmax()])
    least = np.partition(values, -count)[-count] if 0 < count < len(values) else -inf
    ids = np.flatnonzero(values >= least) if count else np.empty(0, np.int64)
    return ids[np.argsort(-values[ids], kind="stable")][:count]


def log_probabilities(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log-softmax over the last axis in float64, in nats: logits (…, V) → (…, V)."""
    shifted = np.subtract(logits, logits.max(axis=-1, keepdims=True), dtype=np.float64)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def log_totals(logits: Logits) -> NDArray[np.float64]:
    """What log-softmax subtracts from the logits (…, V), as float64 (…); faster than all of it, and
    exact to 1e-7."""
    top = logits.max(-1, keepdims=True)
    weights = logits - top
    np.exp(weights, out=weights)
    return top[..., 0] + np.log(weights.sum(-1, dtype=np.float64))


def _weights(
    logits: NDArray[np.floating], out: NDArray[np.floating] | None = None
) -> NDArray[np.floating]:
    """Probabilities up to a factor. out: an array for them."""
    top = np.maximum.reduce(logits, -1, keepdims=True)
    farthest = abs(top.item()) if top.size == 1 else np.maximum.reduce(np.abs(top), None)
    if not farthest <= _FAR:  # so written, NaN gets here, too
        top = peak(logits)
        logits = np.subtract(logits, np.where(np.abs(top) > _FAR, top, 0), out=out)
    weights: NDArray[np.floating] = np.exp(logits, out=out)
    return weights


def _at_least(logits: Logits, threshold: NDArray[np.floating]) -> Logits:
    return np.where(logits >= threshold, logits, np.float32(-inf))


def _largest(values: Logits, k: int) -> Logits:
    """The k-th largest value of each row (…, 1), or the smallest where there are fewer than k."""
    k = min(k, values.shape[-1])
    kth: Logits = np.partition(values, -k, axis=-1)[..., [-k]]
    return kth


def _keep_first(
    logits: Logits,
    candidates: NDArray[np.bool_],
    order: Ids,
    weights: Logits,
    share: NDArray[np.float64],
    least: int,
) -> Logits:
    """Keep the first candidates of each row, as many as reach the share, and at least `least`.

    candidates (…, V) · order (N,): of all candidates in a line, upwards, 32 bits; of equals, lower
    ids come first · weights (…, V) · share (…, 1).
    """
    size = logits.shape[-1]
    candidates, weights = candidates.reshape(-1, size), weights.reshape(-1, size)
    counts = candidates.sum(1)
    listed = np.arange(counts.max()) < counts[:, None]  # (B, the most candidates of a row)
    # Rank and id are packed in one integer, so that the fast sort, which is not stable, serves.
    keys = np.full(listed.shape, np.iinfo(np.int64).max)
    keys[listed] = (order << 32) + candidates.nonzero()[1]
    keys.sort(axis=1)
    ids = np.where(listed, keys & 0xFFFFFFFF, 0)
    ranked = np.where(listed, np.take_along_axis(weights, ids, 1), 0)
    sums = ranked.cumsum(1, dtype=np.float64)
    enough = (sums < share.reshape(-1, 1) * (1.0 - RESOLUTION)).sum(1) + 1
    listed &= np.arange(listed.shape[1]) < np.maximum(enough, least)[:, None]
    chosen = listed.nonzero()[0], ids[listed]
    kept = np.full((len(ids), size), -inf, logits.dtype)
    kept[chosen] = logits.reshape(-1, size)[chosen]
    return kept.reshape(logits.shape)
