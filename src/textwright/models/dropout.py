"""Dropout that costs little on a processor."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_STEPS = 1 << 16  # a place is kept by comparing 16 random bits with the rate


class Dropout(nn.Module):
    """As `nn.Dropout`: in training, each place is dropped with the given rate, and what is kept is
    divided by the share that is kept.

    PyTorch draws the places one by one, which at the widths of a laptop takes longer than the
    products between them. Here one draw of 64 random bits serves four places, so on a processor
    the rate is rounded to a multiple of 1/65,536; and NumPy, with a seed that PyTorch draws, takes
    half of PyTorch's time for it.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.p):
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.p)
        return x * kept_places(x, self.p)


def kept_places(x: Tensor, rate: float) -> Tensor:
    """Like x: 0 where a place is dropped, 1 over the share that is kept elsewhere."""
    dropped = round(rate * _STEPS)
    random = np.random.default_rng(int(torch.randint(2**63 - 1, ())))
    bits = torch.from_numpy(random.integers(2**64, size=(x.numel() + 3) // 4, dtype=np.uint64))
    places = bits.view(torch.int16)[: x.numel()].view(x.shape)
    # Written as numbers of x's type at once: booleans take five times as long.
    kept = torch.ge(places, dropped - _STEPS // 2, out=torch.empty_like(x))
    return kept.mul_(_STEPS / (_STEPS - dropped))
