"""How the next id is chosen: the documented order of steps, and the random numbers.

The order, and what each step may look at:

 1. bias                                                 8. temperature
 2. forbidden tokens                                     9. top-k
 3. repetition penalty               prompt and text    10. top-p
 4. presence and frequency penalty   text only          11. min-p
 5. no-repeat n-grams                prompt and text    12. typical
 6. no copies                        prompt and text    13. draw, in id order
 7. minimum length, given fields     ban the stop id

Each step works on the result of the one before; the steps are in `sampling_steps.py`, the options
in `sampling_options.py`. Rows that share their options are processed together; only the steps that
look at a row's own history, 3 to 6, go row by row. There is no hidden state: the same arguments
give the same result, whatever rows stand beside.

Letters: B rows, T time, V vocabulary.
"""

from collections.abc import Sequence
from math import inf
from typing import Protocol

import numpy as np

from textwright.errors import GenerationError
from textwright.writing.sampling_options import SamplingOptions
from textwright.writing.sampling_steps import (
    Ids,
    Logits,
    add_bias,
    ban,
    draw_rows,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
    peak,
    penalize_counts,
    penalize_repetition,
    repeating_ids,
    temper,
    trouble,
)

_NO_IDS: Ids = np.empty(0, np.int64)
TOGETHER = 1 << 17  # logits of rows that are processed at a time; more would leave the cache


def penalize(
    logits: Logits,
    options: SamplingOptions,
    ids: Ids = _NO_IDS,
    prompt_length: int = 0,
    stop_id: int | None = None,
    copied: Ids = _NO_IDS,
    waits: bool = False,
) -> None:
    """Steps 1 to 7, in place: the changes that depend on the token itself, on the prompt and on the
    text.

    logits (V,) · ids (T,): the prompt's `prompt_length` ids, then those of the text · stop_id: None
    is never banned · copied: the ids that would complete a sequence of the training text · waits:
    whether a given field has yet to come.
    """
    if options.logit_bias:
        add_bias(logits, options.logit_bias)
    if options.forbid:
        ban(logits, options.forbid)
    if options.repetition_penalty != 1.0:
        penalize_repetition(logits, ids, options.repetition_penalty)
    if options.presence_penalty or options.frequency_penalty:
        penalize_counts(
            logits, ids[prompt_length:], options.presence_penalty, options.frequency_penalty
        )
    if options.no_repeat_ngram:
        ban(logits, repeating_ids(ids, options.no_repeat_ngram))
    if len(copied):
        ban(logits, copied)
    if stop_id is not None and (waits or len(ids) - prompt_length < options.min_new_tokens):
        ban(logits, stop_id)


def truncate(logits: Logits, options: SamplingOptions, out: Logits | None = None) -> Logits:
    """Steps 8 to 12: temperature, then the filters, each on the result of the one before.

    out: an array that may be written to, such as that of the logits.
    """
    temperature = options.temperature
    # A beam needs a second token to go on with where the likeliest one ends the text.
    least = 2 if options.beams > 1 else 1
    if temperature != 1.0 and temperature != inf:
        logits = temper(logits, temperature, out)
    if options.top_k:
        logits = keep_top_k(logits, max(options.top_k, least))
    if options.top_p < 1.0:
        logits = keep_top_p(logits, options.top_p, least)
    if options.min_p > 0.0:
        logits = keep_min_p(logits, options.min_p, least)
    if options.typical_p < 1.0:
        logits = keep_typical(logits, options.typical_p, least)
    if temperature == inf:
        # On a flat distribution the filters could not choose (top-k would keep all tokens, as
        # ties). So they see the model's own distribution, and what they leave is made flat:
        # "uniform among the top k".
        logits = temper(logits, inf)
    return logits


def process(
    logits: Logits,
    options: SamplingOptions,
    ids: Ids = _NO_IDS,
    prompt_length: int = 0,
    stop_id: int | None = None,
    copied: Ids = _NO_IDS,
    waits: bool = False,
) -> Logits:
    """Steps 1 to 12: the logits that the draw is made from. Arguments as for `penalize`, but the
    logits are left as they are."""
    logits = logits.copy()
    penalize(logits, options, ids, prompt_length, stop_id, copied, waits)
    return truncate(logits, options, logits)


class Past(Protocol):
    """What the steps that look back see of a row."""

    @property
    def count(self) -> int: ...  # of its new tokens
    @property
    def history(self) -> Ids: ...  # (T,): the prompt's ids, then those of the text
    @property
    def prompt_length(self) -> int: ...
    @property
    def copied(self) -> Ids: ...  # see `penalize`
    @property
    def waits(self) -> bool: ...  # likewise


def choose(
    logits: Logits,
    options: SamplingOptions,
    uniforms: Sequence[float],
    pasts: Sequence[Past],
    stop_id: int,
) -> tuple[list[int], dict[int, GenerationError]]:
    """The whole order: the next id of each row, and what is wrong with rows that have none.

    logits (B, V), which are overwritten · uniforms (B,): the random numbers of the rows' places;
    temperature 0 uses none.
    """
    ids: list[int] = []
    troubles: dict[int, GenerationError] = {}
    together = max(1, TOGETHER // logits.shape[1])
    for first in range(0, len(logits), together):
        part = slice(first, first + together)
        left = logits[part]
        _penalize_rows(left, options, pasts[part], stop_id)
        try:
            ids += _pick(left, options, uniforms[part])
        except GenerationError:
            top = left.max(1, keepdims=True)
            possible = np.isfinite(top)
            for row in np.flatnonzero(~possible).tolist():
                troubles[first + row] = trouble(float(top[row, 0]))
            ids += _pick(np.where(possible, left, np.float32(0)), options, uniforms[part])
    return ids, troubles


def _pick(logits: Logits, options: SamplingOptions, uniforms: Sequence[float]) -> list[int]:
    """Steps 8 to 13 of rows, logits (B, V), which are overwritten. Raises as `peak` does."""
    if options.temperature == 0.0:
        peak(logits)
        return logits.argmax(1).tolist()
    return draw_rows(truncate(logits, options, logits), uniforms)


def _penalize_rows(
    logits: Logits, options: SamplingOptions, pasts: Sequence[Past], stop_id: int
) -> None:
    """Steps 1 to 7 of rows, logits (B, V), in place."""
    if options.sees_history:
        for row, past in zip(logits, pasts, strict=True):
            seen = past.history, past.prompt_length, stop_id, past.copied, past.waits
            penalize(row, options, *seen)
        return
    penalize(logits, options)
    least = options.min_new_tokens
    for place, past in enumerate(pasts):
        if past.waits or (least and past.count < least):
            logits[place, stop_id] = -inf


def uniforms(seed: int, index: int) -> np.random.Generator:
    """The random numbers of one sample: the p-th `.random()` belongs to its p-th new token.

    index: the sample's number among those of its prompt. Raises GenerationError for a seed that is
    negative or needs more than 64 bits.
    """
    if not 0 <= seed < 2**64:
        raise GenerationError(f"The seed {seed} is not in 0 … 2^64-1: choose one that is.")
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))
