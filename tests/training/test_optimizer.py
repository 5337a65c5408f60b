"""Adam and AdamW move parameters as torch's own optimizers do."""

import pytest
import torch

from textwright.training import optimizer
from textwright.training.optimizer import Adam

SHAPES = [(7, 5), (3,), (2, 3, 4), ()]
BETAS, EPSILON = (0.8, 0.97), 1e-6
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def parameters(device):
    torch.manual_seed(0)
    return [torch.randn(shape, device=device).requires_grad_() for shape in SHAPES]


def groups(made, decay):
    return [
        {"params": made[:2], "weight_decay": decay},
        {"params": made[2:], "weight_decay": 0.0},
    ]


def ours(made, decay):
    return Adam(groups(made, decay), 0.01, BETAS, EPSILON)


def torchs(made, decay, fused=True):
    """torch's Adam where nothing decays, so that both names are compared."""
    kind = torch.optim.AdamW if decay else torch.optim.Adam
    return kind(groups(made, decay), lr=0.01, betas=BETAS, eps=EPSILON, fused=fused)


def take_steps(stepped, made, first, last):
    """Steps of gradients that differ in size, at a rate that changes and is another in each group;
    the second parameter has a gradient at every third step only."""
    for step in range(first, last):
        stepped.param_groups[0]["lr"] = 0.01 / (1 + step)
        stepped.param_groups[1]["lr"] = 0.02 / (1 + step)
        stepped.zero_grad()
        torch.manual_seed(step)
        for number, parameter in enumerate(made):
            gradient = torch.randn(parameter.shape) * 10.0 ** (number - 2)
            if number != 1 or step % 3 == 0:
                parameter.grad = gradient.to(parameter.device)
        stepped.step()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_fused_steps_are_those_of_torch_to_the_bit(decay, device):
    own, theirs = parameters(device), parameters(device)
    take_steps(ours(own, decay), own, 0, 300)
    take_steps(torchs(theirs, decay), theirs, 0, 300)
    for mine, other in zip(own, theirs, strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_plain_steps_are_those_of_torch(decay, monkeypatch):
    monkeypatch.setattr(optimizer, "FUSED", ())
    own, theirs = parameters("cpu"), parameters("cpu")
    take_steps(ours(own, decay), own, 0, 300)
    take_steps(torchs(theirs, decay, fused=False), theirs, 0, 300)
    for mine, other in zip(own, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_state_of_torchs_optimizer_is_continued_to_the_bit(decay):
    """Checkpoints of version 0.1.0 hold one."""
    own, theirs = parameters("cpu"), parameters("cpu")
    before = torchs(own, decay)
    take_steps(before, own, 0, 50)
    after = ours(own, decay)
    after.state = {parameter: dict(state) for parameter, state in before.state.items()}
    take_steps(after, own, 50, 100)
    take_steps(torchs(theirs, decay), theirs, 0, 100)
    for mine, other in zip(own, theirs, strict=True):
        assert torch.equal(mine, other)


def test_a_parameter_without_a_gradient_has_no_state():
    made = parameters("cpu")
    stepped = ours(made, 0.1)
    before = [parameter.clone() for parameter in made]
    stepped.step()
    assert not stepped.state
    assert all(map(torch.equal, made, before))
