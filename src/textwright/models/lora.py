"""Low-rank adaptation (Hu et al. 2021): frozen matrices, with narrow ones beside them that learn.

    y = W·x + b  becomes  y = W·x + b + (α / r)·B·A·x        A (r, in), B (out, r)

B begins at zero, so the model begins as the one it adapts. The base keeps its canonical names; the
adapters of `blocks.0.attention.input.weight` are `blocks.0.attention.input.lora_a` and `….lora_b`.
`Run.weights` merges the two, so only training handles them apart.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class Adapted(nn.Linear):
    """A linear layer with adapters beside it, which takes over the weight and bias of another."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float):
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.scale = alpha / rank
        self.lora_a = nn.Parameter(layer.weight.new_empty(rank, self.in_features))
        self.lora_b = nn.Parameter(layer.weight.new_zeros(self.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))  # as a fresh linear layer

    def forward(self, x: Tensor) -> Tensor:
        beside = linear(linear(x, self.lora_a), self.lora_b)
        return super().forward(x) + self.scale * beside


def adapt(model: nn.Module, rank: int, alpha: float) -> None:
    """Freeze a model, and put adapters beside the matrices of its attention and feed-forward."""
    model.requires_grad_(False)
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if type(layer) is nn.Linear:
                setattr(parent, name, Adapted(layer, rank, alpha))


def trained(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that training changes, by name: all, or only the adapters."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
