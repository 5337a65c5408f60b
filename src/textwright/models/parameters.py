"""The table of a model's parameters."""

from __future__ import annotations

from typing import Any

import torch

from textwright.config import Config
from textwright.models import build


def parameter_table(config: Config, vocab_size: int) -> dict[str, Any]:
    """Parameters by layer, as `textwright summary --json` prints them. Nothing is allocated."""
    with torch.device("meta"):
        model = build(config.model, vocab_size, config.data.context_length)
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
