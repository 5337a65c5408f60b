"""The table of a model's parameters."""

from __future__ import annotations

from typing import Any

import torch

from textwright.errors import ConfigError
from textwright.families import Family
from textwright.models import build_empty


def parameter_table(options: Family, vocab_size: int, context_length: int) -> dict[str, Any]:
    """Parameters by layer, as `textwright summary --json` prints them. Nothing is allocated.

    context_length: `data.context_length`, on which some options depend.
    """
    if options.counted:
        raise ConfigError(
            f"A model of family {options.family} has no parameters: it is counted from a corpus."
        )
    model = build_empty(options, vocab_size, context_length)
    layers: dict[str, list[torch.Tensor]] = {}
    for name, parameter in model.named_parameters():
        layers.setdefault(name.rpartition(".")[0] or name, []).append(parameter)
    table = [
        {
            "name": name,
            "shape": [list(parameter.shape) for parameter in parameters],
            "count": sum(parameter.numel() for parameter in parameters),
        }
        for name, parameters in layers.items()
    ]
    return {
        "parameters": {"total": sum(row["count"] for row in table), "layers": table},
        "context_length": model.context_length,
        "vocabulary": vocab_size,
    }
