"""How the next id is chosen: the options, the documented order of steps, and the random numbers.

The order, and what each step may look at:

 1. bias                                                 7. temperature
 2. forbidden tokens                                     8. top-k
 3. repetition penalty               prompt and text     9. top-p
 4. presence and frequency penalty   text only          10. min-p
 5. no-repeat n-grams                prompt and text    11. typical
 6. minimum length                   bans the stop id   12. draw, in id order

Each step works on what the one before left; `sampling_steps.py` has them. Rows are taken one by
one, because each has a history of its own. Nothing here remembers anything: the same arguments
give the same result.
"""

from math import inf
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from textwright.errors import GenerationError
from textwright.options import Options
from textwright.writing.sampling_steps import (
    Ids,
    Logits,
    add_bias,
    ban,
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
    peak,
    penalize_counts,
    penalize_repetition,
    repeating_ids,
    temper,
)

Token = int | str
_NO_IDS: Ids = np.empty(0, np.int64)


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

    beams: int = Field(
        1,
        ge=1,
        description="texts of a prompt that are followed side by side, the best of them written: "
        "beam search at temperature 0, else sampled beams (1: off)",
    )
    length_penalty: float = Field(
        1.0,
        ge=-10,
        le=10,
        description="finished beams rank by score / tokens^this: above 0 longer texts gain, "
        "below 0 shorter ones",
    )
    early_stopping: Literal[True, False, "never"] = Field(
        False,
        description="when a search ends: true, as soon as it has as many finished texts as beams; "
        "false, when no beam would better the worst of them if it ended now; never, when none "
        "could at its full length either",
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
        problems: dict[str, str] = {}
        for problem in error.errors():
            message = problem["msg"].removeprefix("Value error, ")
            name = str(problem["loc"][0]) if problem["loc"] else ""  # "": two fields disagree
            if problem["type"] == "extra_forbidden":
                message = f"there is no option {name}"
            elif name:
                message = (
                    f"{name} cannot be {problem['input']!r}: {message[0].lower()}{message[1:]}"
                )
            if name in SamplingOptions.model_fields:
                message += f" ({SamplingOptions.model_fields[name].description})"
            problems.setdefault(name, message)  # a token that is neither text nor id fails twice
        raise GenerationError("; ".join(problems.values()) + ".") from None


def penalize(
    logits: Logits,
    options: SamplingOptions,
    ids: Ids = _NO_IDS,
    prompt_length: int = 0,
    stop_id: int | None = None,
) -> Logits:
    """Steps 1 to 6: what prompt and text so far say against (or for) a token.

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
    """Steps 7 to 11: temperature, then the filters, each on what the one before left."""
    temperature = options.temperature
    # A beam needs another way on where the likeliest token ends the text.
    least = 2 if options.beams > 1 else 1
    if temperature != 1.0 and temperature != inf:
        logits = temper(logits, temperature)
    if options.top_k:
        logits = keep_top_k(logits, max(options.top_k, least))
    if options.top_p < 1.0:
        logits = keep_top_p(logits, options.top_p, least)
    if options.min_p > 0.0:
        logits = keep_min_p(logits, options.min_p, least)
    if options.typical_p < 1.0:
        logits = keep_typical(logits, options.typical_p, least)
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
    """Steps 1 to 11: the logits that are drawn from. Arguments as for `penalize`."""
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
    if options.temperature == 0.0:
        logits = penalize(logits, options, ids, prompt_length, stop_id)
        peak(logits)
        return int(logits.argmax())
    return draw(process(logits, options, ids, prompt_length, stop_id), uniforms.random())


def uniforms(seed: int, index: int) -> np.random.Generator:
    """The random numbers of one sample: the p-th `.random()` belongs to its p-th new token.

    index: the sample's number among those of its prompt. Raises GenerationError for a seed that is
    negative or needs more than 64 bits.
    """
    if not 0 <= seed < 2**64:
        raise GenerationError(f"The seed {seed} is not in 0 … 2^64-1: choose one that is.")
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))


def explain(options: SamplingOptions) -> list[str]:
    """The order with the values in force, one line a step."""
    o, off = options, "off"
    bias = ", ".join(f"{token!r} {value:+g}" for token, value in o.logit_bias.items())
    forbidden = ", ".join(repr(token) for token in o.forbid)
    temperature = {
        0.0: "0: the likeliest token, always (of equals, the lowest id)"
        if o.beams == 1
        else "0: beam search, the likeliest always",
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
        ("draw", "no chance involved" if o.temperature == 0 else "by seed, sample, position"),
    ]
    if o.beams > 1:
        steps[-1] = ("draw", f"{steps[-1][1]}; {2 * o.beams} of what may follow {o.beams} beams")
    stops = ", ".join(repr(text) for text in o.stop)
    ends = "the stop token" + (f", {stops}" if stops else "")
    lines = [f"{number:2} {name}: {value}" for number, (name, value) in enumerate(steps, 1)]
    lines.append(f"   ends at {ends} or {o.max_new_tokens} new tokens")
    return lines if o.beams == 1 else [*lines, *_explain_beams(o)]


def _explain_beams(options: SamplingOptions) -> list[str]:
    """How beams are chosen by what the steps make of their log-probabilities."""
    beams, penalty = options.beams, options.length_penalty
    ends = {
        True: f"when {beams} have ended",
        False: f"when {beams} have ended and no other is better as it is",
        "never": f"when {beams} have ended and no other can become better",
    }
    steps = [
        ("score", "what the steps above make of log-probabilities, summed over a beam's tokens"),
        (
            "ended",
            f"those of the first {beams} that end; they rank by score / tokens^{penalty:g}",
        ),
        ("go on", f"the {beams} best of the others, by score"),
        ("search ends", ends[options.early_stopping]),
    ]
    return [f"   {name}: {value}" for name, value in steps]
