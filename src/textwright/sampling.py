"""From logits to the next id: pure NumPy functions, applied in one documented order.

The order, and what each step may look at:

 1. bias and forbidden tokens
 2. repetition penalty               prompt and text
 3. presence and frequency penalty   text only
 4. no-repeat n-grams                prompt and text
 5. minimum length                   bans the stop id
 6. temperature
 7. top-k     8. top-p     9. min-p     10. typical       each on what the one before left
11. draw                             inverse of the cumulative distribution, in id order

All functions take one row of logits (V,), because every row has a history of its own, and return
a new array or, where there is nothing to do, the array they were given. A banned token has logit
-inf. Nothing here remembers anything: the same arguments give the same result.
"""

from functools import lru_cache
from hashlib import blake2b
from math import inf, isfinite, isinf
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from textwright.errors import GenerationError
from textwright.options import Options

Logits = NDArray[np.float32]
Ids = NDArray[np.int64]

# Float32 logits cannot tell sums of probabilities apart below this: a sum that misses its share
# by less has reached it. So probabilities .5, .3, .2 under top-p .8 keep two tokens, not three.
RESOLUTION = 1e-6
_NO_IDS: Ids = np.empty(0, np.int64)
_BLOCK = 128

Token = int | str


class SamplingOptions(Options):
    """How the next token is chosen, and when a text ends. Lengths count new tokens.

    A token is given as its text, or as its id (an integer).
    """

    temperature: float = Field(
        1.0,
        ge=0,
        description="divides the logits: 1 is the model's own distribution, lower is safer, "
        "0 always takes the likeliest token, inf draws evenly from what the filters leave",
    )
    top_k: int = Field(0, ge=0, description="keep the k likeliest tokens, ties included (0: all)")
    top_p: float = Field(
        1.0, gt=0, le=1, description="keep the likeliest tokens that together reach this share"
    )
    min_p: float = Field(
        0.0, ge=0, le=1, description="keep tokens at least this likely, as a share of the likeliest"
    )
    typical_p: float = Field(
        1.0,
        gt=0,
        le=1,
        description="keep the tokens whose surprise is nearest the average, up to this share",
    )
    repetition_penalty: float = Field(
        1.0,
        gt=0,
        lt=inf,
        description="above 1, tokens of prompt and text become less likely "
        "(positive logits are divided by it, negative ones multiplied)",
    )
    presence_penalty: float = Field(
        0.0, gt=-inf, lt=inf, description="subtracted from the logit of every token in the text"
    )
    frequency_penalty: float = Field(
        0.0, gt=-inf, lt=inf, description="subtracted once for every time a token is in the text"
    )
    no_repeat_ngram: int = Field(
        0, ge=0, description="no run of this many tokens occurs twice in prompt and text (0: off)"
    )
    logit_bias: dict[Token, Annotated[float, Field(ge=-inf, lt=inf)]] = Field(
        {}, description="added to the logit of a token: {token: number}"
    )
    forbid: list[Token] = Field([], description="tokens never written")
    min_new_tokens: int = Field(
        0, ge=0, description="neither the stop token nor a stop text ends a text before"
    )
    max_new_tokens: int = Field(100, ge=1, description="a text is cut at this many new tokens")
    stop: list[Annotated[str, Field(min_length=1)]] = Field(
        [], description="texts that end the text; they are not part of it"
    )

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens ({self.min_new_tokens}) should not exceed "
                f"max_new_tokens ({self.max_new_tokens})"
            )
        return self


def sampling_options(**values: Any) -> SamplingOptions:
    """Options from keywords. Raises GenerationError: one sentence that names every problem."""
    try:
        return SamplingOptions(**values)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            message = problem["msg"].removeprefix("Value error, ")
            if not problem["loc"]:  # the check of two fields against each other
                problems.append(message)
                continue
            name = str(problem["loc"][0])
            text = f"{name} cannot be {problem['input']!r}: {message[0].lower()}{message[1:]}"
            field = SamplingOptions.model_fields.get(name)
            problems.append(f"{text} ({field.description})" if field else text)
        raise GenerationError("; ".join(problems) + ".") from None


def penalize(
    logits: Logits,
    options: SamplingOptions,
    ids: Ids = _NO_IDS,
    prompt_length: int = 0,
    stop_id: int | None = None,
) -> Logits:
    """Steps 1 to 5: what prompt and text so far say against (or for) a token.

    logits (V,) · ids (T,): the prompt's `prompt_length` ids, then those of the text.
    """
    if options.logit_bias:
        logits = add_bias(logits, options.logit_bias)
    if options.forbid:
        logits = ban(logits, options.forbid)
    if options.repetition_penalty != 1.0:
        logits = penalize_repetition(logits, ids, options.repetition_penalty)
    if options.presence_penalty or options.frequency_penalty:
        logits = penalize_counts(
            logits, ids[prompt_length:], options.presence_penalty, options.frequency_penalty
        )
    if options.no_repeat_ngram:
        banned = repeating_ids(ids, options.no_repeat_ngram)
        if len(banned):
            logits = ban(logits, banned)
    if stop_id is not None and len(ids) - prompt_length < options.min_new_tokens:
        logits = ban(logits, [stop_id])
    return logits


def truncate(logits: Logits, options: SamplingOptions) -> Logits:
    """Steps 6 to 10: temperature, then the filters, each on what the one before left."""
    temperature = options.temperature
    if temperature != 1.0 and temperature != inf:
        logits = temper(logits, temperature)
    if options.top_k:
        logits = keep_top_k(logits, options.top_k)
    if options.top_p < 1.0:
        logits = keep_top_p(logits, options.top_p)
    if options.min_p > 0.0:
        logits = keep_min_p(logits, options.min_p)
    if options.typical_p < 1.0:
        logits = keep_typical(logits, options.typical_p)
    if temperature == inf:
        # Filters on a flat distribution would be blind (top-k would keep everything, as ties), so
        # they see the model's own, and what they leave is made flat: "uniform among the top k".
        logits = temper(logits, inf)
    return logits


def process(
    logits: Logits,
    options: SamplingOptions,
    ids: Ids = _NO_IDS,
    prompt_length: int = 0,
    stop_id: int | None = None,
) -> Logits:
    """Steps 1 to 10: the logits that are drawn from. Arguments as for `penalize`."""
    return truncate(penalize(logits, options, ids, prompt_length, stop_id), options)


def choose(
    logits: Logits,
    options: SamplingOptions,
    uniforms: np.random.Generator,
    ids: Ids = _NO_IDS,
    prompt_length: int = 0,
    stop_id: int | None = None,
) -> int:
    """The whole order: the next id for one row. Temperature 0 draws no random number.

    Raises GenerationError where every token is banned, or the logits are not numbers.
    """
    logits = penalize(logits, options, ids, prompt_length, stop_id)
    if options.temperature == 0.0:
        best = int(logits.argmax())
        _check_peak(logits[best])
        return best
    return draw(truncate(logits, options), uniforms.random())


# --- the steps, in order ---------------------------------------------------------------------


def add_bias(logits: Logits, bias: dict[Any, float]) -> Logits:
    """logits (V,) with the number of each id added; the keys of `bias` are ids."""
    logits = logits.copy()
    logits[list(bias)] += np.fromiter(bias.values(), logits.dtype, len(bias))
    return logits


def ban(logits: Logits, ids: Any) -> Logits:
    """logits (V,) with -inf at `ids`."""
    logits = logits.copy()
    logits[ids] = -inf
    return logits


def penalize_repetition(logits: Logits, ids: Ids, penalty: float) -> Logits:
    """Each seen token once: logits above zero are divided by `penalty`, others multiplied by it.

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
    if len(ids) < n:
        return _NO_IDS
    if n == 1:
        return ids
    windows = np.lib.stride_tricks.sliding_window_view(ids, n)
    same = (windows[:, :-1] == ids[len(ids) - n + 1 :]).all(axis=1)
    return windows[same, -1]


def temper(logits: Logits, temperature: float) -> Logits:
    """log p / T, up to a constant. 0: only the likeliest token is left (of equals, the lowest id);
    inf: all that are not banned are equally likely."""
    if temperature == 0.0:
        return _only(logits, logits.argmax())
    if temperature == inf:
        return np.where(logits > -inf, np.float32(0), np.float32(-inf))
    # The peak goes to zero first: nothing can overflow upwards, and the likeliest tokens, which
    # matter most, lose no digits. Beyond 1e±30, float32 would turn T itself into 0 or inf.
    return (logits - logits.max()) / min(max(temperature, 1e-30), 1e30)


def keep_top_k(logits: Logits, k: int) -> Logits:
    """The k largest logits, and all that equal the k-th."""
    if k >= len(logits):
        return logits
    return _at_least(logits, np.partition(logits, -k)[-k])


def keep_top_p(logits: Logits, p: float) -> Logits:
    """The smallest set of likeliest tokens with probability p or more; of equals, lower ids first.

    Holtzman et al. 2020, nucleus sampling.
    """
    probability = probabilities(logits)
    # Tokens below (1-p)/V hold less than 1-p together, so the others reach p without them: only
    # those few need sorting, and the result is the same.
    likely = np.flatnonzero(probability >= (1.0 - p) / len(logits))
    by_rank = likely[np.argsort(-probability[likely], kind="stable")]
    return _only(logits, by_rank[: _sufficient(probability[by_rank], p)])


def keep_min_p(logits: Logits, min_p: float) -> Logits:
    """Tokens whose probability is `min_p` times the largest, or more (Nguyen et al. 2024)."""
    return _at_least(logits, logits.max() + np.float32(np.log(min_p) - RESOLUTION))


def keep_typical(logits: Logits, p: float) -> Logits:
    """Tokens nearest in surprise to the entropy, until they hold p or more (Meister et al. 2022).

    Distances are told apart to 1e-6 nats; of equals, lower ids first.
    """
    probability = probabilities(logits)
    possible = np.flatnonzero(probability)
    probability = probability[possible]
    surprise = -np.log(probability)
    distance = np.abs(surprise - probability @ surprise)
    # One integer holds distance and place, so that equals sort by place with the fast sort.
    keys = np.rint(distance / RESOLUTION).astype(np.int64) * len(possible)
    keys += np.arange(len(possible))
    keys.sort()
    by_rank = keys % len(possible)
    return _only(logits, possible[by_rank[: _sufficient(probability[by_rank], p)]])


def draw(logits: Logits, uniform: float) -> int:
    """The first id at which the cumulative probability exceeds `uniform`, which is in [0, 1).

    Weights are float32, sums float64. Raises GenerationError where no token is left.
    """
    peak = logits.max()
    _check_peak(peak)
    weights = np.exp(logits - peak)
    # A running sum over V is one long chain of additions; sums of blocks are not. Find the block
    # by the running sum of those, then the id within it.
    starts = _block_starts(len(weights))
    ends = np.add.reduceat(weights, starts, dtype=np.float64).cumsum()
    target = uniform * ends[-1]
    block = min(int(ends.searchsorted(target, "right")), len(ends) - 1)
    start = int(starts[block])
    inside = weights[start : start + _BLOCK]
    running = inside.cumsum(dtype=np.float64)
    if block:
        running += ends[block - 1]
    place = int(running.searchsorted(target, "right"))
    if place == len(inside):  # the two sums of this block differ in the last digit
        place = int(np.flatnonzero(inside)[-1])
    return start + place


def uniforms(seed: int, index: int, prompt: str = "") -> np.random.Generator:
    """The random numbers of one sample: the p-th `.random()` belongs to its p-th new token.

    A sample is named by its seed, its prompt and its index among that prompt's samples, so its
    draws never depend on what else is written with it, and two samples share no draws.
    Raises GenerationError for a seed that is negative or needs more than 64 bits.
    """
    if not 0 <= seed < 2**64:
        raise GenerationError(f"The seed {seed} is not in 0 … 2^64-1: choose one that is.")
    # Philox numbers its blocks with 256 bits: the prompt takes the upper 64, tokens count below.
    place = int.from_bytes(blake2b(prompt.encode(errors="surrogatepass"), digest_size=8).digest()) if prompt else 0
    return np.random.Generator(
        np.random.Philox(
            key=np.array([seed, index], np.uint64), counter=np.array([0, 0, 0, place], np.uint64)
        )
    )


def probabilities(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Softmax over the last axis in float64: logits (…, V) -> (…, V)."""
    shifted = np.subtract(logits, logits.max(axis=-1, keepdims=True), dtype=np.float64)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted


# --- in words --------------------------------------------------------------------------------


def explain(options: SamplingOptions) -> list[str]:
    """The order with the values in force, one line a step."""
    o, off = options, "off"
    bias = ", ".join(f"{token!r} {value:+g}" for token, value in o.logit_bias.items())
    forbidden = ", ".join(repr(token) for token in o.forbid)
    temperature = {
        0.0: "0: the likeliest token, always (of equals, the lowest id)",
        1.0: "1: the model's own distribution",
        inf: "inf: even odds for what the filters below leave (they see the model's own)",
    }.get(o.temperature, f"{o.temperature:g}: logits divided by it")
    penalties = o.presence_penalty or o.frequency_penalty
    steps = [
        ("bias", bias or off),
        ("forbidden tokens", forbidden or off),
        (
            "repetition penalty (prompt and text)",
            off if o.repetition_penalty == 1.0 else f"{o.repetition_penalty:g}",
        ),
        (
            "presence and frequency penalty (text)",
            f"{o.presence_penalty:g} and {o.frequency_penalty:g}" if penalties else off,
        ),
        (
            "no-repeat n-grams (prompt and text)",
            f"no {o.no_repeat_ngram} tokens in a row twice" if o.no_repeat_ngram else off,
        ),
        (
            "minimum length",
            f"no end before {o.min_new_tokens} new tokens" if o.min_new_tokens else off,
        ),
        ("temperature", temperature),
        ("top-k", f"{o.top_k} likeliest and ties" if o.top_k else off),
        ("top-p", f"likeliest up to {o.top_p:g}" if o.top_p < 1 else off),
        ("min-p", f"at least {o.min_p:g} of the likeliest" if o.min_p else off),
        ("typical", f"nearest the entropy, up to {o.typical_p:g}" if o.typical_p < 1 else off),
        ("draw", "no chance involved" if o.temperature == 0 else "by seed, prompt, sample, place"),
    ]
    stops = ", ".join(repr(text) for text in o.stop)
    ends = "the stop token" + (f", {stops}" if stops else "")
    lines = [f"{number:2} {name}: {value}" for number, (name, value) in enumerate(steps, 1)]
    return [*lines, f"   ends at {ends} or {o.max_new_tokens} new tokens"]


# --- helpers ---------------------------------------------------------------------------------


def _check_peak(peak: np.float32) -> None:
    if isfinite(peak):
        return
    if isinf(peak) and peak < 0:
        raise GenerationError(
            "No token is left to choose: forbid fewer tokens, or loosen no_repeat_ngram "
            "or min_new_tokens."
        )
    raise GenerationError(
        "The model's logits are not finite numbers: its training diverged or its file is damaged; "
        "use an earlier checkpoint."
    )


def _only(logits: Logits, ids: Any) -> Logits:
    kept = np.full_like(logits, -inf)
    kept[ids] = logits[ids]
    return kept


def _at_least(logits: Logits, threshold: np.float32) -> Logits:
    return np.where(logits >= threshold, logits, np.float32(-inf))


def _sufficient(ranked: NDArray[np.float64], p: float) -> int:
    """How many of the ranked probabilities it takes to reach p."""
    return int(np.searchsorted(ranked.cumsum(), p * (1.0 - RESOLUTION))) + 1


@lru_cache(maxsize=8)
def _block_starts(size: int) -> NDArray[np.intp]:
    return np.arange(0, size, _BLOCK)
