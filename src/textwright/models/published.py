"""Models of other projects that gpt.py can be: one module a form, found by the model_type of its
config.json."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from pydantic import ValidationError
from safetensors import SafetensorError

from textwright.errors import PretrainedError
from textwright.families import GPTOptions
from textwright.models import gpt2, llama
from textwright.models.gpt import GPT
from textwright.models.places import Places, spread
from textwright.run import Arrays
from textwright.tokenizer import Tokenizer

FINE_TUNING_RATE = 1e-4  # keeps what was learned; the default rate is for fresh weights
KNOWN = "GPT-2, Llama, Qwen2 or Qwen3"
# Raised where a file is not what its form says: any value in it may be missing or of another type.
UNUSABLE = (
    *(OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, ArithmeticError),
    SafetensorError,
)


class PublishedForm(Protocol):
    """The interface of a form's module."""

    PREFIX: str  # of its names of tensors; left out if only the model's body was saved
    NO_PARAMETER: re.Pattern[str]  # names of tensors that files hold without need

    def options_of(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The `[model]` options for a config.json. Raises ValueError that names what gpt.py cannot
        compute."""

    def config_of(self, options: GPTOptions, vocab_size: int, stop_id: int) -> dict[str, Any]:
        """The config.json for options. Raises ConfigError that names the option that this form
        does not have."""

    def places(self, options: GPTOptions) -> Places:
        """Their name of each tensor → its place in ours."""


FORMS: dict[str, PublishedForm] = {kind: form for form in (gpt2, llama) for kind in form.TYPES}


def form_of(config: Mapping[str, Any]) -> PublishedForm:
    """The form that a config.json names. Raises ValueError if it is none of FORMS."""
    kind = config.get("model_type")
    if kind not in FORMS:
        raise ValueError(f"its model_type is {kind!r}, not one of {', '.join(FORMS)}")
    if config.get("quantization_config"):
        raise ValueError("its weights are quantized; only those of a GGUF file can be read")
    return FORMS[kind]


def form_for(options: GPTOptions) -> PublishedForm:
    """The form that a model with these options is nearest to."""
    return gpt2 if options.positions == "learned" else llama


def reason_of(error: Exception) -> str:
    """What one of UNUSABLE says of a file, without a period."""
    if isinstance(error, ValidationError):
        wrong = error.errors()[0]
        return ": ".join([*map(str, wrong["loc"]), wrong["msg"].removeprefix("Value error, ")])
    if isinstance(error, KeyError):
        return f"it lacks {error.args[0]}"
    if isinstance(error, OSError | ValueError | SafetensorError):
        return getattr(error, "strerror", None) or str(error)
    return "it is damaged"


def fine_tuned(model: dict[str, Any], tokenizer: Tokenizer) -> dict[str, dict[str, Any]]:
    """What a training takes over from a published model, see `run.origin.Origin.inherited`. model:
    its shape, as `[model]` options."""
    return {
        "base": {"train": {"learning_rate": FINE_TUNING_RATE}},
        "given": {
            "model": model,
            "tokenizer": {"kind": "pretrained", "vocab_size": tokenizer.vocab_size},
        },
    }


def tokens_embedded(source: str, rows: int, tokenizer: Tokenizer) -> int:
    """The number of the tokenizer's tokens. Raises PretrainedError if an embedding of so many rows
    does not hold them."""
    if rows < tokenizer.vocab_size:
        raise PretrainedError(
            f"The weights of {source} embed {rows} tokens, but its tokenizer has "
            f"{tokenizer.vocab_size}; name a model with its own tokenizer."
        )
    return tokenizer.vocab_size


def own_names(form: PublishedForm, tensors: Iterable[str], places: Places) -> dict[str, str]:
    """The form's name of each tensor → its name in the files, without those that are no parameter.

    A name may lack the form's prefix.
    """
    found = {}
    for name in tensors:
        whole = name if name in places else form.PREFIX + name
        if whole in places:
            found[whole] = name
        elif not form.NO_PARAMETER.fullmatch(name):
            found[name] = name
    return found


def as_published(model: GPT, vocab_size: int, stop_id: int) -> tuple[dict[str, Any], Arrays]:
    """config.json and the tensors that transformers computes without our code. Raises ConfigError
    if no form is the model's."""
    options = model.options
    form = form_for(options)
    config = form.config_of(options, vocab_size, stop_id)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return config, spread(weights, form.places(options))
