"""Adam, AdamW and Muon move parameters as torch's own optimizers do."""

import math

import pytest
import torch

from textwright.training import optimizer
from textwright.training.optimizer import POLYNOMIALS, Adam, Muon, orthogonal

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


@pytest.mark.parametrize(("dtype", "noise"), [(torch.float32, 1e-3), (torch.bfloat16, 5e-2)])
@pytest.mark.parametrize("shape", [(48, 48), (40, 96), (96, 40)])
def test_singular_values_become_one(shape, dtype, noise):
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.logspace(0, -1.5, min(shape))  # none is below 0.01 of the norm
    for size in (1e-6, 1.0, 1e6):
        [found] = orthogonal((size * left @ torch.diag(values) @ right)[None], dtype)
        found = left.T @ found @ right.T
        assert 0.72 < found.diagonal().min() < found.diagonal().max() < 1.28
        assert (found - torch.diag(found.diagonal())).abs().max() < noise


def test_each_polynomial_is_the_best_for_what_the_one_before_leaves():
    """The error of the best one takes its largest size four times, with alternating signs."""
    numbers = torch.logspace(-2, 0, 100_001, dtype=torch.float64)
    for a, b, c in POLYNOMIALS:
        numbers = numbers.sort().values
        error = 1 - numbers * (a + b * numbers**2 + c * numbers**4)
        slope = error.diff()
        turns = [0, *(slope[1:] * slope[:-1] < 0).nonzero().flatten() + 1, len(numbers) - 1]
        largest = error[torch.tensor(turns)]
        torch.testing.assert_close(largest.abs(), largest.abs().max().expand(4), rtol=0.01, atol=0)
        assert (largest[1:] * largest[:-1] < 0).all()
        numbers = 1 - error
    assert 0.72 < numbers.min() < numbers.max() < 1.28


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has it since 2.9")
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_matrices_move_as_torchs_muon_moves_them(decay, monkeypatch):
    """With its polynomials, which it computes in bf16, and as its neurons move."""

    def as_they_are(self, moves, parts):
        moves *= optimizer.ADAMS_SIZE * math.sqrt(max(moves[0].shape))

    monkeypatch.setattr(Muon, "_even_out", as_they_are)
    monkeypatch.setattr(optimizer, "POLYNOMIALS", [(3.4445, -4.775, 2.0315)] * 5)
    monkeypatch.setattr(optimizer, "INTERVAL", 1)
    starts = [torch.randn(shape) for shape in [(24, 24), (16, 40), (64, 20)]]
    own, theirs = ([start.clone().requires_grad_() for start in starts] for _ in range(2))
    parts = {p: [len(p)] for p in own}
    mine = Muon([{"params": own, "weight_decay": decay}], parts, 0.01, dtype=torch.bfloat16)
    other = torch.optim.Muon(
        theirs, lr=0.01, weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for step in range(5):
        torch.manual_seed(step)
        for one, two in zip(own, theirs, strict=True):
            one.grad = torch.randn(one.shape)
            two.grad = one.grad.clone()
        mine.step()
        other.step()
    for start, one, two in zip(starts, own, theirs, strict=True):
        assert (one - two).norm() < 0.02 * (two - start).norm()


def test_what_muon_does_not_move_is_moved_by_adam():
    own, theirs, matrix = parameters("cpu"), parameters("cpu"), torch.zeros(6, 6).requires_grad_()
    made = Muon(groups([*own, matrix], 0.1), {matrix: [6]}, 0.01, BETAS, EPSILON)
    take_steps(made, [*own, matrix], 0, 20)
    take_steps(ours(theirs, 0.1), theirs, 0, 20)
    assert all(map(torch.equal, own, theirs))
    assert matrix.abs().max() > 0
    assert set(made.state[matrix]) == {"step", "momentum", "squares"}


def test_muon_moves_at_every_second_step_twice_as_far():
    gradients = torch.randn(3, 6, 4)

    def after(steps):
        matrix = torch.ones(6, 4).requires_grad_()
        made = Muon([{"params": [matrix], "weight_decay": 0.5}], {matrix: [6]}, 0.01)
        for gradient in gradients[:steps]:
            matrix.grad = gradient
            made.step()
        return matrix.detach(), made.state[matrix]["momentum"]

    assert torch.equal(after(1)[0], torch.ones(6, 4))
    assert torch.equal(after(2)[0], after(3)[0])
    mean = after(2)[1]
    torch.testing.assert_close(mean, 0.05 * (gradients[1] + 0.95 * gradients[0]))
    [move] = orthogonal((0.05 * gradients[1] + 0.95 * mean)[None])
    move /= move.square().mean(1, keepdim=True).sqrt()
    expected = (1 - 0.02 * 0.5) - 0.02 * 0.2 * move
    torch.testing.assert_close(after(2)[0], expected)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (6, 6)])
def test_neurons_move_equally_far_in_the_long_run(shape, monkeypatch):
    """Against the equations of NorMuon, one neuron after another; of a wide matrix, its columns."""
    monkeypatch.setattr(optimizer, "INTERVAL", 1)
    monkeypatch.setattr(optimizer, "MOMENTUM", 0.0)
    torch.manual_seed(0)
    matrix = torch.zeros(shape).requires_grad_()
    expected, means = torch.zeros(shape), torch.zeros(max(shape))
    made = Muon([{"params": [matrix], "weight_decay": 0.0}], {matrix: [shape[0]]}, 0.01)
    for step in range(30):
        matrix.grad = torch.randn(shape) * torch.logspace(-2, 0, shape[1])
        made.step()
        [move] = orthogonal(matrix.grad[None])
        neurons = move if shape[0] >= shape[1] else move.T
        for number, neuron in enumerate(neurons):
            square = neuron.square().mean()
            means[number] = 0.95 * means[number] + 0.05 * square if step else square
            neuron /= means[number].sqrt()
        expected -= 0.01 * 0.2 * move / move.square().mean().sqrt()
        torch.testing.assert_close(matrix.detach(), expected)


def test_a_matrix_whose_gradient_is_zero_stays(monkeypatch):
    monkeypatch.setattr(optimizer, "INTERVAL", 1)
    matrix = torch.ones(6, 4).requires_grad_()
    matrix.grad = torch.zeros(6, 4)
    made = Muon([{"params": [matrix], "weight_decay": 0.0}], {matrix: [6]}, 0.01)
    for _ in range(3):
        made.step()
    assert torch.equal(matrix, torch.ones(6, 4))


def test_matrices_that_are_joined_move_as_they_would_apart(monkeypatch):
    monkeypatch.setattr(optimizer, "INTERVAL", 1)
    gradient = torch.randn(14, 6)
    joined, *apart = (torch.zeros(rows, 6).requires_grad_() for rows in (14, 6, 6, 2))
    joined.grad = gradient
    for one, part in zip(apart, gradient.split([6, 6, 2]), strict=True):
        one.grad = part
    parts = {joined: [6, 6, 2], **{one: [len(one)] for one in apart}}
    Muon([{"params": [joined, *apart], "weight_decay": 0.0}], parts, 0.01).step()
    torch.testing.assert_close(joined, torch.cat(apart))
