"""The models of all families, as torch modules with one contract."""

from pathlib import Path

import torch

from textwright.compute.device import choose_device
from textwright.errors import RunError
from textwright.families import Family, implementation
from textwright.models.contract import LanguageModel, ModelState, TorchBackend, Trace
from textwright.run import Arrays, Run

__all__ = [
    "LanguageModel",
    "ModelState",
    "TorchBackend",
    "Trace",
    "build",
    "build_empty",
    "build_with",
    "fill",
    "load",
]


def build(options: Family, vocab_size: int, context_length: int) -> LanguageModel:
    """A freshly initialized model, of the family that the options belong to.

    context_length: `data.context_length`, on which some options depend.
    """
    model: LanguageModel = implementation(options.model)(
        options.with_context(context_length), vocab_size
    )
    return model


def build_empty(options: Family, vocab_size: int, context_length: int) -> LanguageModel:
    """A model whose parameters have shapes but no values; nothing is allocated."""
    with torch.device("meta"):
        return build(options, vocab_size, context_length)


def build_with(
    weights: Arrays, path: Path, options: Family, vocab_size: int, context_length: int
) -> LanguageModel:
    """A model that takes over arrays that were read from `path`, without a copy, so that memory
    need not hold them twice. Raises RunError if they do not fit."""
    model = build_empty(options, vocab_size, context_length)
    fill(model, weights, path, assign=True)
    return model


def load(run: Run, device: str = "auto", step: int | None = None) -> LanguageModel:
    """A model with a run's best weights, or those of a step whose checkpoint is kept, ready to
    score, trace or write."""
    shape = (run.config.model, run.tokenizer.vocab_size, run.config.data.context_length)
    return build_with(run.weights(step), run.path, *shape).to(choose_device(device)).eval()


def fill(model: LanguageModel, weights: Arrays, path: Path, assign: bool = False) -> None:
    """Put arrays that were read from `path` into a model, or with `assign` make them its own.

    Raises RunError if they do not fit.
    """
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    try:
        model.load_state_dict(tensors, assign=assign)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip().rstrip(".")
        raise RunError(
            f"The weights of {path} do not fit the model of its config ({reason}); correct the "
            "config, or restore it from a copy."
        ) from None
