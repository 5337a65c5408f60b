"""Adam (Kingma & Ba 2015, algorithm 1) with the decay of AdamW (Loshchilov & Hutter 2019), and Muon
(Jordan et al. 2024) with moves of one size for all neurons (NorMuon, Li et al. 2025).

torch.optim has both, but its optimizers import torch's compiler when they are made, which takes as
long as importing torch itself; nothing here is ever compiled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import starmap
from typing import Any, NamedTuple

import torch
from torch import Tensor

from textwright.config import TrainOptions
from textwright.models import LanguageModel
from textwright.models.contract import BY_TOKEN
from textwright.models.lora import trained

FUSED = ("cpu", "cuda")  # devices where torch updates all parameters in one pass over memory

MOMENTUM = 0.95  # Muon's share of the mean gradient that is kept
INTERVAL = 2  # steps from one move of Muon to the next, which goes as many times as far
NEURONS_MEMORY = 0.95  # share that is kept of the mean square of what moves one neuron
TINY = 1e-12
ADAMS_SIZE = 0.2  # root mean square of the entries of Adam's updates (Liu et al. 2025)
# Polynomials x·(a + b·x² + c·x⁴) which, one after another, bring all numbers between 0.01 and 1 as
# near to 1 as three of degree 5 can, 0.73 to 1.27: each is the best for what the one before leaves
# (Amsel et al. 2025, "The Polar Express").
POLYNOMIALS = (
    (8.0934, -23.6204, 17.4462),
    (3.6366, -2.7219, 0.5365),
    (2.6613, -1.9772, 0.4526),
)


def choose_optimizer(model: LanguageModel, options: TrainOptions, dtype: torch.dtype) -> Adam:
    """Adam, AdamW, or Muon on the matrices of layers and AdamW on all else. Weight decay is for
    matrices only, not for biases and norms."""
    named = trained(model)
    parameters = list(named.values())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    how = (options.learning_rate, (options.beta1, options.beta2), options.epsilon)
    if options.optimizer != "muon":
        return Adam(groups, *how)
    joined = model.joined_matrices()
    inner = {name: p for name, p in named.items() if p.dim() == 2 and not name.startswith(BY_TOKEN)}
    parts: dict[Tensor, Sequence[int]] = {p: joined.get(n, [len(p)]) for n, p in inner.items()}
    return Muon(groups, parts, *how, dtype=dtype)


class Adam:
    """Adam over groups of parameters, each with its learning rate and weight decay.

    It is driven as torch's optimizers are, so that one of them can stand in its place.
    param_groups: dicts of `params`, `lr` and `weight_decay`, which may be changed between steps ·
    state: of each parameter that has had a gradient, `step`, `exp_avg` and `exp_avg_sq`.
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        """groups: dicts of `params` and `weight_decay`; the parameters of one are of one device and
        type. Without weight decay this is Adam, with it AdamW."""
        self.param_groups = [{"lr": lr, **group} for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        self._betas, self._eps = betas, eps

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            if parameters := [p for p in group["params"] if p.grad is not None]:
                self._move(parameters, group)

    def _move(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = self._betas
        gradients = [p.grad for p in parameters if p.grad is not None]  # all of them
        states = [self.state_of(p) for p in parameters]
        means, squares, steps = (
            [state[key] for state in states] for key in ("exp_avg", "exp_avg_sq", "step")
        )
        torch._foreach_add_(steps, 1)
        options = {"lr": group["lr"], "weight_decay": group["weight_decay"]}
        options |= {"beta1": beta1, "beta2": beta2, "eps": self._eps}
        if parameters[0].device.type in FUSED:
            largest: list[Tensor] = []  # of the squares, for a variant that is not offered
            tensors = (parameters, gradients, means, squares, largest, steps)
            torch._fused_adamw_(*tensors, amsgrad=False, maximize=False, **options)
        else:
            for each in zip(parameters, gradients, means, squares, steps, strict=True):
                _update(*each, **options)

    def state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        """The state of a parameter, begun where there is none yet."""
        if parameter not in self.state:
            # Where the step is read as a number, it is kept where that does not wait for a device.
            device = parameter.device if parameter.device.type in FUSED else "cpu"
            self.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return self.state[parameter]


def _update(
    parameter: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    step: Tensor,
    *,
    lr: float,
    weight_decay: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """The equations, in place."""
    t = step.item()
    parameter.mul_(1 - lr * weight_decay)
    mean.lerp_(gradient, 1 - beta1)
    square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    deviation = (square / (1 - beta2**t)).sqrt_().add_(eps)
    parameter.addcdiv_(mean, deviation, value=-lr / (1 - beta1**t))


class Muon(Adam):
    """Muon on some matrices, Adam on all else.

    A matrix moves along its mean gradient with all singular values made 1, so that directions in
    which few tokens pull are learned as fast as those in which all do. The rows of such a move, or
    the columns where they are more, still differ in size: some neurons would hardly learn. So each
    is divided by the root of its mean square over the last moves (Li et al. 2025). The whole has
    the size of Adam's move, so that one learning rate and one decay suit all parameters (Liu et al.
    2025). As the mean changes slowly and its singular values cost as much as a third of a small
    model's step, matrices move at every second step, twice as far.
    state: of each of these matrices that has had a gradient, `step` and `momentum`, and once it has
    moved, `squares`, the means for the rows or columns of its parts.
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        parts: dict[Tensor, Sequence[int]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        dtype: torch.dtype = torch.float32,
    ):
        """parts: of each matrix that Muon moves, the rows of the matrices that it consists of; the
        singular values are those of each · dtype: of the products that change singular values · the
        rest as for Adam."""
        super().__init__(groups, lr, betas, eps)
        self._parts, self._dtype = parts, dtype

    def _move(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if others := [p for p in parameters if p not in self._parts]:
            super()._move(others, group)
        if matrices := [p for p in parameters if p in self._parts]:
            self._move_matrices(matrices, group)

    def _move_matrices(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        """Take in the gradients, and move the matrices whose step it is."""
        gradients = {p: p.grad for p in matrices if p.grad is not None}  # all of them
        momenta = {p: self.state_of(p)["momentum"] for p in matrices}
        torch._foreach_lerp_([*momenta.values()], [*gradients.values()], 1 - MOMENTUM)
        torch._foreach_add_([self.state[p]["step"] for p in matrices], 1)
        moving = [p for p in matrices if self.state[p]["step"] % INTERVAL == 0]
        if not moving:
            return
        rate = INTERVAL * group["lr"]
        torch._foreach_mul_(moving, 1 - rate * group["weight_decay"])
        ahead = torch._foreach_lerp(  # a step ahead (Nesterov)
            [gradients[p] for p in moving], [momenta[p] for p in moving], MOMENTUM
        )
        parts = [part for p, move in zip(moving, ahead, strict=True) for part in self._cut(p, move)]
        for shape in {part.move.shape for part in parts}:  # those of one shape together
            alike = [part for part in parts if part.move.shape == shape]
            found = orthogonal(torch.stack([part.move for part in alike]), self._dtype)
            self._even_out(found, alike)
            torch._foreach_sub_([part.matrix for part in alike], found.unbind(), alpha=rate)

    def _cut(self, matrix: Tensor, move: Tensor) -> Iterator[_Part]:
        """The matrices that a parameter consists of."""
        rows = self._parts[matrix]
        neurons = [max(count, matrix.shape[1]) for count in rows]
        unknown = matrix.new_full([sum(neurons)], math.nan)
        squares = self.state[matrix].setdefault("squares", unknown)
        cuts = matrix.split(rows), move.split(rows), squares.split(neurons)
        return starmap(_Part, zip(*cuts, strict=True))

    def _even_out(self, moves: Tensor, parts: Sequence[_Part]) -> None:
        """Make the moves (parts, M, N) of all neurons of a part equally large in the long run, and
        each part's as large as Adam's."""
        short = 2 if moves.shape[1] >= moves.shape[2] else 1
        now, before = moves.square().mean(short), torch.stack([part.squares for part in parts])
        means = torch.where(before.isnan(), now, before.lerp(now, 1 - NEURONS_MEMORY))
        torch._foreach_copy_([part.squares for part in parts], means.unbind())
        moves *= means.add(TINY).rsqrt_().unsqueeze(short)
        sizes = torch.linalg.matrix_norm(moves, keepdim=True)
        moves *= ADAMS_SIZE * math.sqrt(moves[0].numel()) / (sizes + TINY)

    def state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        if parameter not in self._parts:
            return super().state_of(parameter)
        if parameter not in self.state:
            momentum = torch.zeros_like(parameter)
            self.state[parameter] = {"step": torch.zeros(()), "momentum": momentum}
        return self.state[parameter]


class _Part(NamedTuple):
    """One matrix of a parameter. squares: the mean square of each neuron's last moves; nan: none
    yet."""

    matrix: Tensor
    move: Tensor
    squares: Tensor


def orthogonal(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Matrices x (count, M, N) with their singular values made 1, as nearly as `POLYNOMIALS` do.

    Of the two products X·Xᵀ and Xᵀ·X, the smaller is taken. dtype: of the products; bf16 does.
    """
    if x.shape[1] > x.shape[2]:
        return orthogonal(x.mT, dtype).mT
    size = torch.linalg.matrix_norm(x, keepdim=True) + 1e-7
    found = (x / size).to(dtype)  # no singular value is above 1
    for a, b, c in POLYNOMIALS:
        square = found @ found.mT
        factor = torch.baddbmm(square, square, square, beta=b, alpha=c)
        found = torch.baddbmm(found, factor, found, beta=a)
    return found.to(x)
