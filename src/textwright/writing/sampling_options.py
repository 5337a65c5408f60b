"""The options of sampling, and the order of its steps with the values in force.

`sampling.py` does what they ask for. This module stands apart because the command line reads its
flags from it, and `--help` should not wait for NumPy.
"""

from math import inf
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from textwright.errors import GenerationError
from textwright.options import Options

Token = int | str
EarlyStopping = Literal[True, False, "never"]


class SamplingOptions(Options):
    """How the next token is chosen, and when a text ends. Lengths count new tokens.

    A token is given as its text, or as its id (an integer).
    """

    temperature: float = Field(
        1.0,
        ge=0,
        description="Divides the logits: below 1 is safer, above 1 bolder. 0 always takes the "
        "likeliest token, inf draws evenly from what the filters leave.",
    )
    top_k: int = Field(
        0, ge=0, description="Keep only the k likeliest tokens, ties included; 0 keeps all."
    )
    top_p: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Keep only the likeliest tokens that together reach this probability.",
    )
    min_p: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Keep only tokens that are at least this share as likely as the likeliest.",
    )
    typical_p: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Keep only the tokens whose surprise is nearest the average, until they "
        "together reach this probability.",
    )
    repetition_penalty: float = Field(
        1.0,
        gt=0,
        lt=inf,
        description="Above 1, tokens of the prompt and the text become less likely: a positive "
        "logit is divided by it, a negative one multiplied.",
    )
    presence_penalty: float = Field(
        0.0,
        gt=-inf,
        lt=inf,
        description="Subtracted from the logit of every token that the text contains.",
    )
    frequency_penalty: float = Field(
        0.0,
        gt=-inf,
        lt=inf,
        description="Subtracted from a token's logit once for each time the text contains it.",
    )
    no_repeat_ngram: int = Field(
        0,
        ge=0,
        description="No sequence of this many tokens occurs twice in prompt and text; 0 allows "
        "all.",
    )
    no_copy: int = Field(
        0,
        ge=0,
        description="Never write this many tokens in a row that stand so in the training text; 0 "
        "allows all.",
    )
    logit_bias: dict[Token, Annotated[float, Field(ge=-inf, lt=inf)]] = Field(
        {}, description="For each token that is named, a number that is added to its logit."
    )
    forbid: list[Token] = Field([], description="Tokens that are never written.")
    min_new_tokens: int = Field(
        0,
        ge=0,
        description="Neither the stop token nor a stop text ends a text that has fewer new tokens.",
    )
    max_new_tokens: int = Field(
        100, ge=1, description="A text ends when it has this many new tokens."
    )
    stop: list[Annotated[str, Field(min_length=1)]] = Field(
        [], description="Strings that end the text; they are not part of it."
    )

    beams: int = Field(
        1,
        ge=1,
        description="Follow this many texts of a prompt side by side and write the best of them: "
        "beam search at temperature 0, otherwise sampled beams. 1 turns beams off.",
    )
    length_penalty: float = Field(
        1.0,
        ge=-10,
        le=10,
        description="Finished beams are ranked by score / tokens^this: above 0 favors longer "
        "texts, below 0 shorter ones.",
    )
    early_stopping: EarlyStopping = Field(
        False,
        description="When a beam search ends. true: when it has as many finished texts as beams. "
        "false: when, in addition, no running beam would rank above the worst of them if it ended "
        "now. never: when none could rank above it at its full length either.",
    )

    @field_validator("no_copy")
    @classmethod
    def _copies_have_two_tokens(cls, length: int) -> int:
        if length == 1:
            raise ValueError("2 is the least, because single tokens all stand in the training text")
        return length

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens ({self.min_new_tokens}) should not exceed "
                f"max_new_tokens ({self.max_new_tokens})"
            )
        return self

    @property
    def sees_history(self) -> bool:
        """Whether a step looks at the ids of the prompt or of the text, so rows go one by one."""
        penalties = self.presence_penalty or self.frequency_penalty
        repeats = self.no_repeat_ngram or self.no_copy
        return bool(self.repetition_penalty != 1.0 or penalties or repeats)

    @property
    def steps(self) -> str:
        """What the choice of an id depends on, as one key: rows of equal steps go together."""
        return self.model_dump_json(exclude={"max_new_tokens", "stop"})


def sampling_options(**values: Any) -> SamplingOptions:
    """Options from keywords. Raises GenerationError with one sentence that names every problem."""
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
                description = SamplingOptions.model_fields[name].description or ""
                message += f" ({description.removesuffix('.')})"
            problems.setdefault(name, message)  # a token that is neither text nor id fails twice
        raise GenerationError("; ".join(problems.values()) + ".") from None


def explain(options: SamplingOptions) -> list[str]:
    """The steps in their order with the values in force, one line each."""
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
            "no copies (prompt and text)",
            f"no {o.no_copy} tokens in a row as in the training text" if o.no_copy else off,
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
    """The lines about beams: how they are scored and chosen, and when the search ends."""
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
