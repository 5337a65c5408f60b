"""The steps of sampling, each a pure function of one row of logits (V,).

A step returns a new array or, if it changes nothing, the one it was given. A banned token has the
logit -inf. `sampling.py` puts the steps in order.
"""

from functools import lru_cache
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
_BLOCK = 128


class NoTokenLeftError(GenerationError):
    """Every token is banned, so a text cannot go on."""

    def __init__(self) -> None:
        super().__init__(
            "No token is left to choose: forbid fewer tokens, or loosen no_repeat_ngram, "
            "no_copy or min_new_tokens."
        )


def add_bias(logits: Logits, bias: dict[Any, float]) -> Logits:
    """Add to the logit of each id its number in `bias`, whose keys are ids."""
    logits = logits.copy()
    logits[list(bias)] += np.fromiter(bias.values(), logits.dtype, len(bias))
    return logits


def ban(logits: Logits, ids: Any) -> Logits:
    """Set the logits of `ids` to -inf."""
    logits = logits.copy()
    logits[ids] = -inf
    return logits


def penalize_repetition(logits: Logits, ids: Ids, penalty: float) -> Logits:
    """Divide the logit of each seen token by `penalty` if it is above zero, else multiply it.

    A token is penalized once, however often it occurs. Keskar et al. 2019 (CTRL), with the sign
    treated as in all implementations since.
    """
    seen = logits[ids]
    logits = logits.copy()
    logits[ids] = np.where(seen < 0, seen * penalty, seen / penalty)
    return logits


def penalize_counts(logits: Logits, text_ids: Ids, presence: float, frequency: float) -> Logits:
    """logit − presence·[count > 0] − frequency·count, counted in the text, as in OpenAI's API."""
    seen, counts = np.unique(text_ids, return_counts=True)
    logits = logits.copy()
    logits[seen] -= (presence + frequency * counts).astype(logits.dtype)
    return logits


def repeating_ids(ids: Ids, n: int) -> Ids:
    """The ids that, written next, would complete an n-gram that `ids` (T,) already contains."""
    if n == 1 or len(ids) < n:
        return ids[: len(ids) if n == 1 else 0]
    windows = np.lib.stride_tricks.sliding_window_view(ids, n)
    same = (windows[:, :-1] == ids[len(ids) - n + 1 :]).all(axis=1)
    return windows[same, -1]


def temper(logits: Logits, temperature: float) -> Logits:
    """log p / T, up to a constant.

    0 leaves only the likeliest token (of equals, the lowest id); inf makes all tokens that are not
    banned equally likely.
    """
    top = peak(logits)
    if temperature == 0.0:
        return _only(logits, logits.argmax())
    if temperature == inf:
        return np.where(logits > -inf, np.float32(0), np.float32(-inf))
    # The peak is moved to zero first: then nothing overflows upwards, and the likeliest tokens,
    # which matter most, lose no digits. Beyond 1e±30, float32 would turn T itself into 0 or inf.
    return (logits - top) / min(max(temperature, 1e-30), 1e30)


def keep_top_k(logits: Logits, k: int) -> Logits:
    """Keep the k largest logits, and all that equal the k-th."""
    return _at_least(logits, _largest(logits, k)) if k < len(logits) else logits


def keep_top_p(logits: Logits, p: float, least: int = 1) -> Logits:
    """Keep the fewest likeliest tokens that together have probability p or more.

    Of equals, lower ids come first. At least `least` tokens stay, whatever p is. Nucleus sampling,
    Holtzman et al. 2020.
    """
    weights = _weights(logits)
    total = weights.sum(dtype=np.float64)
    # Tokens below (1-p)/V have less than 1-p together, so the others reach p without them: only
    # the others need sorting, and the result is the same.
    floor = (1.0 - p) / len(logits) * total
    if least > 1:
        floor = min(floor, _largest(weights, least))
    likely = np.flatnonzero(weights >= floor)
    # The bits of positive floats, read as integers, have the same order as the floats.
    by_rank = likely[_ranking(-weights[likely].view(np.int32).astype(np.int64))]
    return _only(logits, by_rank[: max(least, _sufficient(weights[by_rank], p * total))])


def keep_min_p(logits: Logits, min_p: float, least: int = 1) -> Logits:
    """Keep tokens whose probability is `min_p` times the largest, or more (Nguyen et al. 2024).

    The `least` likeliest tokens stay, whatever min_p is.
    """
    floor = peak(logits) + np.float32(np.log(min_p) - RESOLUTION)
    return _at_least(logits, min(floor, _largest(logits, least)) if least > 1 else floor)


def keep_typical(logits: Logits, p: float, least: int = 1) -> Logits:
    """Keep the tokens whose surprise is nearest the entropy, until they together reach p.

    Distances are compared to 1e-6 nats; of equals, lower ids come first. At least `least` tokens
    stay, whatever p is. Typical sampling, Meister et al. 2022.
    """
    weights = _weights(logits)
    possible = np.flatnonzero(weights)
    weights = weights[possible]
    total = weights.sum(dtype=np.float64)
    surprise = np.log(total) + peak(logits) - logits[possible].astype(np.float64)
    entropy = weights @ surprise / total
    distance = np.rint(np.abs(surprise - entropy) / RESOLUTION).astype(np.int64)
    by_rank = _ranking(distance)
    enough = max(least, _sufficient(weights[by_rank], p * total))
    return _only(logits, possible[by_rank[:enough]])


def bits_without(logits: Logits, ids: Ids) -> float:
    """−log₂ of the probability that is left without `ids` (each once): what is added to the
    surprisal of a text, in bits, by a rule that forbids them. inf if none is left."""
    left = np.delete(logits, ids)
    if not len(left):
        return inf
    top = peak(logits)
    kept = np.exp(left - top, dtype=np.float64).sum()
    whole = kept + np.exp(logits[ids] - top, dtype=np.float64).sum()
    return float(np.log2(whole) - np.log2(kept)) if kept else inf


def draw(logits: Logits, uniform: float) -> int:
    """The first id at which the cumulative probability exceeds `uniform`, which is in [0, 1).

    Weights are float32, sums float64. Raises NoTokenLeftError where every token is banned.
    """
    weights = _weights(logits)
    start, before = 0, 0.0
    if len(weights) <= 4 * _BLOCK:
        running = np.add.accumulate(weights, dtype=np.float64)
        target = uniform * running[-1]
    else:
        # A running sum over V is one long chain of additions; sums of blocks are faster. Find the
        # block by the running sum of blocks, then the id within the block.
        starts = _block_starts(len(weights))
        ends = np.add.accumulate(np.add.reduceat(weights, starts, dtype=np.float64))
        target = uniform * ends[-1]
        block = min(int(ends.searchsorted(target, "right")), len(ends) - 1)
        if block:
            start, before = block * _BLOCK, ends[block - 1]
        weights = weights[start : start + _BLOCK]
        running = np.add.accumulate(weights, dtype=np.float64)
        running += before
    place = int(running.searchsorted(target, "right"))
    if place == len(weights):  # the two sums differ in the last digit
        place = int(np.flatnonzero(weights)[-1])
    return start + place


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


def peak(logits: Logits) -> np.float32:
    """The largest logit.

    Raises NoTokenLeftError where all are banned, GenerationError where one is not a number.
    """
    top: np.float32 = np.maximum.reduce(logits)  # what logits.max() calls, a microsecond later
    if isfinite(top):
        return top
    if top == -inf:
        raise NoTokenLeftError
    raise GenerationError(
        "The model's logits are not finite numbers: its training diverged or its file is damaged; "
        "use an earlier checkpoint."
    )


def probabilities(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Softmax over the last axis in float64: logits (…, V) → (…, V)."""
    shifted = np.subtract(logits, logits.max(axis=-1, keepdims=True), dtype=np.float64)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted


def log_probabilities(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log-softmax over the last axis in float64, in nats: logits (…, V) → (…, V)."""
    shifted = np.subtract(logits, logits.max(axis=-1, keepdims=True), dtype=np.float64)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def _weights(logits: Logits) -> Logits:
    """Probabilities up to a factor: the largest is 1."""
    shifted = logits - peak(logits)
    np.exp(shifted, out=shifted)
    return shifted


def _only(logits: Logits, ids: Any) -> Logits:
    kept = np.full_like(logits, -inf)
    kept[ids] = logits[ids]
    return kept


def _at_least(logits: Logits, threshold: np.float32) -> Logits:
    return np.where(logits >= threshold, logits, np.float32(-inf))


def _largest(values: Logits, k: int) -> np.float32:
    """The k-th largest value, or the smallest where there are fewer than k."""
    k = min(k, len(values))
    kth: np.float32 = np.partition(values, -k)[-k]
    return kth


def _ranking(order: Ids) -> Ids:
    """The places that sort `order` upwards; equals keep their order. Numbers must fit in 32 bits.

    Number and place are packed in one integer, so that the fast sort, which is not stable, can be
    used.
    """
    keys = (order << 32) + np.arange(len(order))
    keys.sort()
    return keys & 0xFFFFFFFF


def _sufficient(ranked: NDArray[np.floating], share: float) -> int:
    """How many of the ranked weights are needed to reach the share."""
    sums = ranked.cumsum(dtype=np.float64)
    return int(np.searchsorted(sums, share * (1.0 - RESOLUTION))) + 1


@lru_cache(maxsize=8)
def _block_starts(size: int) -> NDArray[np.intp]:
    return np.arange(0, size, _BLOCK)
