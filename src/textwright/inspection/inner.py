"""A run's neural model opened up: its attention or its gates at every token of a text."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from textwright import models
from textwright.compute.memory import memory_errors
from textwright.models import LanguageModel, Trace
from textwright.run import Run

Floats = NDArray[np.float64]


def open_model(run: Run, device: str = "cpu") -> LanguageModel | None:
    """The neural model of a run, for reading; None for counts, which have nothing inside."""
    return None if run.config.model.counted else models.load(run, device).eval()


def views_of(model: LanguageModel | None) -> list[str]:
    """The views that look into this model; none for counts."""
    if model is None:
        return []
    gates = trace(model, np.zeros(1, np.int64)).gates
    return [*(["attention"] if gates is None else ["gates", "units"]), "saliency"]


@memory_errors()
@torch.inference_mode()
def trace(model: LanguageModel, ids: NDArray[np.int64]) -> Trace:
    """The model's inner quantities for one row of ids (T,), by its written-out equations. Raises
    MemoryError if memory runs out."""
    device = next(model.parameters()).device
    return model.trace(torch.as_tensor(ids, device=device)[None])


def attention_of(traced: Trace, whole: bool = True) -> list[Floats]:
    """Each layer's attention (heads, T, T): row t is how token t shares its attention among the
    tokens 0 … t, itself included; the last row alone (heads, 1, T) unless whole. Empty for a model
    without attention."""
    first = 0 if whole else -1
    return [layer[0, :, first:].cpu().double().numpy() for layer in traced.attention or []]


def gates_of(traced: Trace) -> list[dict[str, Floats]]:
    """Each layer's quantities (T, units) by name. Empty for a model without gates."""
    return [
        {name: values[0].cpu().double().numpy() for name, values in layer.items()}
        for layer in traced.gates or []
    ]


def newest_attention(attention: list[Floats]) -> list[list[list[float]]]:
    """For each layer and head, the share of the newest token's attention to each token."""
    return [layer[:, -1].round(6).tolist() for layer in attention]


def summarize_gates(gates: list[dict[str, Floats]]) -> list[dict[str, dict[str, list[float]]]]:
    """For each layer, each quantity's mean, mean absolute value and extremes over the layer's
    units, one number a token."""
    return [{name: _statistics(units) for name, units in layer.items()} for layer in gates]


def _statistics(units: Floats) -> dict[str, list[float]]:
    statistics = {
        "mean": units.mean(1),
        "magnitude": np.abs(units).mean(1),
        "min": units.min(1),
        "max": units.max(1),
    }
    return {key: value.round(6).tolist() for key, value in statistics.items()}
