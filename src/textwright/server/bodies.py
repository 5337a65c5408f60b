"""The bodies of requests: OpenAI's fields, and those beyond it."""

from __future__ import annotations

from math import inf, isfinite
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from textwright.writing.request import MOST_LIKELIEST
from textwright.writing.sampling_options import SamplingOptions

MAX_TOKENS = 16  # new tokens where none are asked for, as with OpenAI
STOPS = 4
BIAS = 100  # the most that is added to a logit
_BOUNDS = ("gt", "ge", "lt", "le")


# pydantic makes an error of each wrong item. A body has room for a million, and while they are made
# nobody else is answered, so what holds many items is refused as one.
def _are_ids(values: Any) -> bool:
    return isinstance(values, list) and all(type(one) is int and one >= 0 for one in values)


def _check_ids(values: Any) -> Any:
    if isinstance(values, list) and not _are_ids(values):
        raise ValueError("give ids, which are whole numbers from 0")
    return values


def _check_fields(fields: Any) -> Any:
    if isinstance(fields, dict) and not all(isinstance(text, str) for text in fields.values()):
        raise ValueError("give texts by the names of fields")
    return fields


def _check_bias(bias: Any) -> Any:
    def is_one(key: str, value: Any) -> bool:
        is_id = key.isascii() and key.removeprefix("-").isdigit()
        return is_id and type(value) in (int, float) and -BIAS <= value <= BIAS

    if isinstance(bias, dict) and not all(is_one(*entry) for entry in bias.items()):
        raise ValueError(f"give numbers from {-BIAS} to {BIAS}, each by an id, which is an integer")
    return bias


Ids = Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(_check_ids)]
Fields = Annotated[dict[str, str] | None, BeforeValidator(_check_fields)]
Bias = Annotated[
    dict[Annotated[int, Field(strict=False)], Annotated[float, Field(ge=-BIAS, le=BIAS)]] | None,
    BeforeValidator(_check_bias),
]
Texts = str | list[str] | Ids | list[Ids] | None


def _sampling(name: str) -> Any:
    """A field with the bounds and the description of a sampling option."""
    option = SamplingOptions.model_fields[name]
    bounds = {
        bound: value
        for entry in option.metadata
        for bound in _BOUNDS
        if (value := getattr(entry, bound, None)) is not None and isfinite(value)
    }
    return Field(None, description=f"{option.description} Left out: as the run has it.", **bounds)


class Exact(BaseModel):
    """Fields of which nothing is guessed: an unknown one is refused, and so is true or "1" in place
    of a number."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _few_are_unknown(cls, body: Any) -> Any:
        if isinstance(body, dict) and len(body) > len(cls.model_fields):
            unknown = next(name for name in body if name not in cls.model_fields)
            raise ValueError(f"{unknown}: there is no such field")
        return body


class StreamOptions(Exact):
    include_usage: bool = Field(False, description="End the stream with a chunk of the usage.")
    include_obfuscation: bool = Field(False, description="Taken, and without effect.")


class SampledBody(Exact):
    """A body of a text and sampling options; those that are left out are the run's own."""

    model: str | None = Field(None, description="A run that is served; left out: the first.")
    fields: Fields = Field(
        None, description="Fields of the run's template, in place of a prompt; others are written."
    )
    begin: Ids = Field(
        [], description="Ids that the text after the prompt begins with; they are new tokens."
    )

    stop: str | list[str] | None = Field(
        None, description=f"Up to {STOPS} strings that end the text; they are not part of it."
    )
    logit_bias: Bias = Field(None, description="By id, numbers that are added to logits.")
    temperature: float | None = _sampling("temperature")
    top_p: float | None = _sampling("top_p")
    presence_penalty: float | None = _sampling("presence_penalty")
    frequency_penalty: float | None = _sampling("frequency_penalty")
    top_k: int | None = _sampling("top_k")
    min_p: float | None = _sampling("min_p")
    typical_p: float | None = _sampling("typical_p")
    repetition_penalty: float | None = _sampling("repetition_penalty")
    no_repeat_ngram: int | None = _sampling("no_repeat_ngram")
    beams: int | None = _sampling("beams")
    min_tokens: int | None = _sampling("min_new_tokens")

    @field_validator(
        "temperature",
        mode="before",
        json_schema_input_type=Annotated[float, Field(ge=0)] | Literal["Infinity"] | None,
    )
    @classmethod
    def _may_be_infinite(cls, temperature: Any) -> Any:
        return inf if temperature == "Infinity" else temperature  # JSON has no number for it

    @field_validator("stop", mode="before")
    @classmethod
    def _stops_are_few(cls, stop: Any) -> Any:
        stops = [stop] if isinstance(stop, str) else stop
        if isinstance(stops, list) and (len(stops) > STOPS or "" in stops):
            raise ValueError(f"give up to {STOPS} strings, none of them empty")
        return stop

    @model_validator(mode="after")
    def _begins_once(self) -> Self:
        if self.fields is not None and getattr(self, "prompt", None) is not None:
            raise ValueError("with fields the template begins the text: leave out the prompt")
        return self

    def sampling(self) -> dict[str, Any]:
        """The sampling options that are given, by the names that the run has for them."""
        names = {"min_tokens": "min_new_tokens"}
        given = {
            names.get(name, name): value
            for name in self.model_fields_set
            if (value := getattr(self, name)) is not None
        }
        if isinstance(self.stop, str):
            given["stop"] = [self.stop]
        return {name: given[name] for name in SamplingOptions.model_fields if name in given}


class CompletionBody(SampledBody):
    """What `POST /v1/completions` takes."""

    prompt: Texts = Field(
        None,
        description="A text, texts, ids, or lists of ids. null begins a document. Ids may begin "
        "with the stop id, which stands for the beginning of a document.",
    )
    max_tokens: int | None = Field(
        MAX_TOKENS, ge=0, description="New tokens of a text; 0 with echo scores the prompt only."
    )
    n: int | None = Field(1, ge=1, le=128, description="Texts for each prompt.")
    best_of: int | None = Field(
        None, ge=1, le=128, description="Write so many, return the n of the best mean log-prob."
    )
    seed: int | None = Field(
        None, ge=0, lt=2**64, description="The same seed gives the same text; left out: any."
    )
    stream: bool | None = Field(False, description="Send the text as it is written.")
    stream_options: StreamOptions | None = None
    echo: bool | None = Field(False, description="Begin each text with its prompt.")
    logprobs: int | None = Field(
        None,
        ge=0,
        le=MOST_LIKELIEST,
        description="Give log-probabilities of tokens, and of so many that were the likeliest.",
    )
    return_token_ids: bool | None = Field(False, description="Give the ids of prompt and text.")
    user: str | None = Field(None, description="Taken, and without effect.")
    suffix: str | None = Field(None, description="Refused: these models write from left to right.")

    @field_validator("prompt", mode="before")
    @classmethod
    def _is_a_prompt(cls, prompt: Any) -> Any:
        if prompt is None or isinstance(prompt, str):
            return prompt
        if isinstance(prompt, list) and prompt:
            if all(isinstance(text, str) for text in prompt) or _are_ids(prompt):
                return prompt
            if all(_are_ids(ids) for ids in prompt):
                return prompt
        raise ValueError(
            "give a text, a list of texts, a list of ids, or a list of lists of ids, which are "
            "whole numbers from 0"
        )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if not self.max_tokens and self.max_tokens is not None and not self.echo:
            raise ValueError("max_tokens 0 writes nothing: add echo to score the prompt")
        if self.best_of is not None:
            if self.best_of < self.num:
                raise ValueError(f"best_of ({self.best_of}) cannot be below n ({self.num})")
            if self.stream and self.best_of > self.num:
                raise ValueError("the best text is known when all have ended: leave out stream")
        beams = self.beams or 1
        if beams > 1 and (self.fields is not None or self.best_of is not None or self.begin):
            raise ValueError(
                "beams cannot be used with fields, begin or best_of: leave out one of them"
            )
        if len(self.begin) > self.new_tokens:
            raise ValueError(
                f"begin has {len(self.begin)} tokens, which max_tokens ({self.new_tokens}) includes"
            )
        if self.num > beams > 1:
            raise ValueError(f"n ({self.num}) needs at least as many beams, not {beams}")
        if (self.min_tokens or 0) > max(1, self.new_tokens):
            raise ValueError(
                f"min_tokens ({self.min_tokens}) cannot exceed max_tokens ({self.new_tokens})"
            )
        return self

    @property
    def num(self) -> int:
        return self.n or 1

    @property
    def texts(self) -> int:
        """How many texts or beams are written for each prompt."""
        return max(self.best_of or self.num, self.beams or 1)

    @property
    def width(self) -> int:
        """How many are written for all prompts."""
        given = self.prompt
        if isinstance(given, list) and not isinstance(given[0], int):
            return len(given) * self.texts
        return self.texts

    @property
    def new_tokens(self) -> int:
        return MAX_TOKENS if self.max_tokens is None else self.max_tokens


class TokensBody(Exact):
    """A body whose tokens mean nothing to another run."""

    model: str | None = Field(
        None, description="A run that is served; may be left out where there is no other."
    )


class TokenizeBody(TokensBody):
    """What `POST /tokenize` takes, as vLLM has it."""

    prompt: str = ""
    fields: Fields = Field(None, description="Fields of the run's template, in place of a prompt.")
    add_special_tokens: bool = Field(False, description="Begin with the stop id.")
    return_token_strs: bool = Field(False, description="Give each token as text, too.")


class InspectBody(SampledBody):
    """What `POST /api/inspect` takes."""

    prompt: str | Ids | None = Field(
        None, description="A text or ids. null stands for the beginning of a document."
    )
    top: int = Field(20, ge=1, le=200, description="So many likeliest tokens are given.")
    inside: bool = Field(
        False, description="Give the attention of the last token, or the gates at every token."
    )
    saliency: bool = Field(False, description="Give how much each token did for the target.")
    target: int | None = Field(
        None,
        ge=0,
        description="An id that is among the tokens given, and that saliency is about; left out, "
        "the likeliest.",
    )


class DetokenizeBody(TokensBody):
    """What `POST /detokenize` takes, as vLLM has it."""

    tokens: Ids
