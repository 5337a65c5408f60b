"""The steps of sampling, each a pure function of one row of logits (V,).

A step returns a new array or, where there is nothing to do, the one it was given. A banned token
has logit -inf. `sampling.py` puts the steps in order.
"""

from functools import lru_cache
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textwright.errors import GenerationError

Logits = NDArray[np.float32]
Ids = NDArray[np.int64]

# Float32 logits cannot tell sums of probabilities apart below this: a sum that misses its share
# by less has reached it. So probabilities .5, .3, .2 under top-p .8 keep two tokens, not three.
RESOLUTION = 1e-6
NO_TOKEN_LEFT = (
    "No token is left to choose: forbid fewer tokens, or loosen no_repeat_ngram or min_new_tokens."
)
_BLOCK = 128


def add_bias(logits: Logits, bias: dict[Any, float]) -> Logits:
    """The number of each id added; the keys of `bias` are ids."""
    logits = logits.copy()
    logits[list(bias)] += np.fromiter(bias.values(), logits.dtype, len(bias))
    return logits


def ban(logits: Logits, ids: Any) -> Logits:
    """-inf at `ids`."""
    logits = logits.copy()
    logits[ids] = -inf
    return logits


def penalize_repetition(logits: Logits, ids: Ids, penalty: float) -> Logits:
    """Each seen token once: a logit above zero is divided by `penalty`, others multiplied by it.

    Keskar et al. 2019 (CTRL), with the sign treated as everyone has done since.
    """
    seen = logits[ids]
    logits = logits.copy()
    logits[ids] = np.where(seen < 0, seen * penalty, seen / penalty)
    return logits


def penalize_counts(logits: Logits, text_ids: Ids, presence: float, frequency: float) -> Logits:
    """logit − presence·[count > 0] − frequency·count, counted in the text; as OpenAI's API."""
    seen, counts = np.unique(text_ids, return_counts=True)
    logits = logits.copy()
    logits[seen] -= (presence + frequency * counts).astype(logits.dtype)
    return logits


def repeating_ids(ids: Ids, n: int) -> Ids:
    """The ids that, written next, would end an n-gram that `ids` (T,) already holds."""
    if n == 1 or len(ids) < n:
        return ids[: len(ids) if n == 1 else 0]
    windows = np.lib.stride_tricks.sliding_window_view(ids, n)
    same = (windows[:, :-1] == ids[len(ids) - n + 1 :]).all(axis=1)
    return windows[same, -1]


def temper(logits: Logits, temperature: float) -> Logits:
    """log p / T, up to a constant. 0: only the likeliest token is left (of equals, the lowest id);
    inf: all that are not banned are equally likely."""
    top = peak(logits)
    if temperature == 0.0:
        return _only(logits, logits.argmax())
    if temperature == inf:
        return np.where(logits > -inf, np.float32(0), np.float32(-inf))
    # The peak goes to zero first: nothing can overflow upwards, and the likeliest tokens, which
    # matter most, lose no digits. Beyond 1e±30, float32 would turn T itself into 0 or inf.
    return (logits - top) / min(max(temperature, 1e-30), 1e30)


def keep_top_k(logits: Logits, k: int) -> Logits:
    """The k largest logits, and all that equal the k-th."""
    return _at_least(logits, _largest(logits, k)) if k < len(logits) else logits


def keep_top_p(logits: Logits, p: float, least: int = 1) -> Logits:
    """The smallest set of likeliest tokens with probability p or more; of equals, lower ids first.

    Holtzman et al. 2020, nucleus sampling. `least` tokens stay, whatever p is.
    """
    weights = _weights(logits)
    total = weights.sum(dtype=np.float64)
    # Tokens below (1-p)/V hold less than 1-p together, so the others reach p without them: only
    # those need sorting, and the result is the same.
    floor = (1.0 - p) / len(logits) * total
    if least > 1:
        floor = min(floor, _largest(weights, least))
    likely = np.flatnonzero(weights >= floor)
    # The bits of positive floats, read as integers, are in the floats' order.
    by_rank = likely[_ranking(-weights[likely].view(np.int32).astype(np.int64))]
    return _only(logits, by_rank[: max(least, _sufficient(weights[by_rank], p * total))])


def keep_min_p(logits: Logits, min_p: float, least: int = 1) -> Logits:
    """Tokens whose probability is `min_p` times the largest, or more (Nguyen et al. 2024).

    The `least` likeliest stay, whatever min_p is.
    """
    floor = peak(logits) + np.float32(np.log(min_p) - RESOLUTION)
    return _at_least(logits, min(floor, _largest(logits, least)) if least > 1 else floor)


def keep_typical(logits: Logits, p: float, least: int = 1) -> Logits:
    """Tokens nearest in surprise to the entropy, until they hold p or more (Meister et al. 2022).

    Distances are told apart to 1e-6 nats; of equals, lower ids first. `least` tokens stay,
    whatever p is.
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


def draw(logits: Logits, uniform: float) -> int:
    """The first id at which the cumulative probability exceeds `uniform`, which is in [0, 1).

    Weights are float32, sums float64. Raises GenerationError where no token is left.
    """
    weights = _weights(logits)
    start, before = 0, 0.0
    if len(weights) <= 4 * _BLOCK:
        running = np.add.accumulate(weights, dtype=np.float64)
        target = uniform * running[-1]
    else:
        # A running sum over V is one long chain of additions; sums of blocks are not. Find the
        # block by the running sum of those, then the id within it.
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
    if place == len(weights):  # the two ways of summing differ in the last digit
        place = int(np.flatnonzero(weights)[-1])
    return start + place


def draw_several(scores: NDArray[np.floating], uniforms: NDArray[np.float64]) -> list[int]:
    """Places drawn one after another, none twice, each in proportion to exp(score) of those left.

    As many as there are uniforms, or fewer where fewer places have a score above -inf.
    """
    scores = scores.copy()
    drawn = []
    for uniform in uniforms[: np.count_nonzero(scores > -inf)]:
        drawn.append(draw(scores, uniform))
        scores[drawn[-1]] = -inf
    return drawn


def peak(logits: Logits) -> np.float32:
    """The largest logit. Raises GenerationError where all are banned, or one is not finite."""
    top: np.float32 = np.maximum.reduce(logits)  # what logits.max() calls, a microsecond later
    if isfinite(top):
        return top
    if top == -inf:
        raise GenerationError(NO_TOKEN_LEFT)
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
    """The k-th largest; the smallest where there are fewer."""
    k = min(k, len(values))
    kth: np.float32 = np.partition(values, -k)[-k]
    return kth


def _ranking(order: Ids) -> Ids:
    """The places of `order`, whose numbers fit in 32 bits, from the least up; equals by place.

    One integer holds number and place, so that the fast sort, which is not stable, will do.
    """
    keys = (order << 32) + np.arange(len(order))
    keys.sort()
    return keys & 0xFFFFFFFF


def _sufficient(ranked: NDArray[np.floating], share: float) -> int:
    """How many of the ranked weights it takes to reach the share."""
    sums = ranked.cumsum(dtype=np.float64)
    return int(np.searchsorted(sums, share * (1.0 - RESOLUTION))) + 1


@lru_cache(maxsize=8)
def _block_starts(size: int) -> NDArray[np.intp]:
    return np.arange(0, size, _BLOCK)
