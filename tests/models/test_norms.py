"""Norms and heads in few passes give what PyTorch's parts give, forward and backward."""

import pytest
import torch
from torch import nn

from textwright.models import norms
from textwright.models.lora import Adapted
from textwright.models.norms import RMSNorm, cut_heads

BATCH, TIME, WIDTH, KEY, VALUE = 2, 5, 16, 6, 3


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_rms_norm_is_that_of_pytorch():
    own, theirs = RMSNorm(WIDTH, 1e-3), nn.RMSNorm(WIDTH, 1e-3)
    nn.init.uniform_(own.weight, 0.5, 1.5)
    theirs.load_state_dict(own.state_dict())
    x = torch.randn(BATCH, TIME, WIDTH, requires_grad=True)
    found = [torch.autograd.grad(norm(x).sin().sum(), [x, norm.weight]) for norm in (own, theirs)]
    torch.testing.assert_close(own(x), theirs(x))
    torch.testing.assert_close(*found)


def test_rms_norm_has_the_gradient_of_finite_differences():
    norm = RMSNorm(4, 1e-3).double()
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, dtype=torch.float64, requires_grad=True)
    apply = norms._RMSNorm.apply
    assert torch.autograd.gradcheck(lambda x, weight: apply(x, weight, norm.eps), (x, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("heads", [(2, 2), (4, 2)])
@pytest.mark.parametrize("time", [TIME, 64])  # few tokens, and more than the layer has rows
@pytest.mark.parametrize("normed, turned", [(True, True), (True, False), (False, True)])
def test_heads_are_those_of_the_parts(normed, turned, time, heads, adapted, dtype):
    layer = nn.Linear(WIDTH, sum(heads) * KEY + heads[1] * VALUE)
    if adapted:
        layer = Adapted(layer, 2, 4.0)
        nn.init.normal_(layer.lora_b)
    each = (nn.RMSNorm(KEY, 1e-3), nn.RMSNorm(KEY, 1e-3)) if normed else None
    for norm in each or ():
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    angles = torch.rand(BATCH, time, KEY // 2) * 6
    rotation = (angles.cos(), angles.sin()) if turned else None
    x = torch.randn(BATCH, time, WIDTH, requires_grad=True)
    learned = [x, *layer.parameters(), *(norm.weight for norm in each or ())]

    def look(cut):
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            queries, keys, values = cut(layer, x, heads, VALUE, each, rotation)
        keys = keys.float().repeat_interleave(heads[0] // heads[1], 1)
        scores = queries.float() @ keys.transpose(-1, -2)
        found = [scores, values.float()]
        total = sum(
            (part * torch.linspace(-1, 1, part.numel()).view_as(part)).sum() for part in found
        )
        return [*found, *torch.autograd.grad(total, learned)]

    limit = 1e-5 if dtype == torch.float32 else 0.02
    for found, expected in zip(look(cut_heads), look(norms._cut_by_parts), strict=True):
        assert (found - expected).norm() <= limit * expected.norm()
