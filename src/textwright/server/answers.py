"""What the server answers, as its schema tells programs. Nothing is built from these: tests hold
the answers to them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# What each refusal means, by its status.
REFUSALS = {
    400: "The request cannot be served, or its body is no JSON.",
    401: "The key is missing or wrong.",
    404: "There is no such model, or nothing at this path.",
    405: "The path does not take this method.",
    408: "The body did not come in time.",
    413: "The body is too long.",
    422: "A field of the body is wrong; `param` names it.",
    429: "The server has enough to do; `Retry-After` says when to try again.",
}


def described(answer: type[BaseModel], **content: Any) -> dict[str, Any]:
    """How a route tells the schema of its answer, which is not checked again; content: what else
    than JSON it may be, by media type."""
    told: dict[str, Any] = {"model": answer}
    if content:
        told["content"] = content
    return {"response_model": None, "responses": {200: told}}


def refusals() -> dict[int | str, dict[str, Any]]:
    """What all routes may answer instead."""
    return {
        status: {"model": Refusal, "description": meaning} for status, meaning in REFUSALS.items()
    }


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Error(Answer):
    message: str
    type: str
    param: str | None
    code: str | None


class Refusal(Answer):
    """An error in OpenAI's form."""

    error: Error


class Model(Answer):
    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["textwright"]
    max_model_len: int | None = Field(description="How far back the model looks; null: no limit.")


class Models(Answer):
    object: Literal["list"]
    data: list[Model]


class Logprobs(Answer):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class Choice(Answer):
    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length"] | None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None


class Usage(Answer):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionAnswer(Answer):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    seed: int
    choices: list[Choice]
    usage: Usage


class Tokens(Answer):
    tokens: list[int]
    count: int
    max_model_len: int | None
    token_strs: list[str] | None
    unknown: list[str]
    prompt: str


class Text(Answer):
    prompt: str


class TokenizerInfo(Answer):
    tokenizer_class: str
    bos_token: str
    eos_token: str
    vocab_size: int
    model_max_length: int | None
    chat_template: None


class RunInfo(BaseModel):
    """A run, and what else a page shows of it."""

    name: str
    family: str
    context_length: int | None
    fields: list[str]
    options: dict[str, Any]


class Runs(Answer):
    runs: list[RunInfo]


class Token(Answer):
    id: int
    text: str


class NextToken(Token):
    before: float = Field(description="Its probability before the sampling options.")
    after: float


class Entropy(Answer):
    before: float
    after: float


class Inspected(Answer):
    tokens: list[Token]
    kept: int = Field(description="How many tokens sampling leaves.")
    entropy: Entropy
    next: list[NextToken]
    seen: list[Token] | None = None
    attention: Any = None
    gates: Any = None
    target: int | None = None
    saliency: list[float] | None = None
    shares: dict[str, float] | None = None
    parts: dict[str, Any] | None = None


class Health(Answer):
    status: Literal["ok"]
