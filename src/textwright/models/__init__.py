"""The model families. A new one is a file beside these and a line in MODELS."""

from collections.abc import Callable
from pathlib import Path

import torch

from textwright.compute.device import choose_device
from textwright.config import GPTOptions, ModelOptions
from textwright.errors import RunError
from textwright.models.contract import LanguageModel, ModelState, TorchBackend, Trace
from textwright.models.gpt import GPT
from textwright.models.lstm import LSTM
from textwright.run import Arrays, Run

MODELS: dict[str, Callable[..., LanguageModel]] = {"lstm": LSTM, "gpt": GPT}

__all__ = [
    "GPT",
    "LSTM",
    "MODELS",
    "LanguageModel",
    "ModelState",
    "TorchBackend",
    "Trace",
    "build",
    "fill",
    "load",
]


def build(options: ModelOptions, vocab_size: int, context_length: int) -> LanguageModel:
    """A freshly initialized model of the family that the options name.

    context_length: of the data, which a GPT can look back on unless its options say more.
    """
    if isinstance(options, GPTOptions) and not options.context_length:
        options = options.model_copy(update={"context_length": context_length})
    return MODELS[options.family](options, vocab_size)


def load(run: Run, device: str = "auto") -> LanguageModel:
    """A run's best weights in a model, ready to score, trace or write."""
    model = build(run.config.model, run.tokenizer.vocab_size, run.config.data.context_length)
    fill(model, run.weights(), run.path)
    return model.to(choose_device(device)).eval()


def fill(model: LanguageModel, weights: Arrays, path: Path) -> None:
    """Put arrays saved at a path into a model. Raises RunError where names or shapes differ."""
    try:
        model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip().rstrip(".")
        raise RunError(f"The weights of {path} do not fit this model: {reason}.") from None
