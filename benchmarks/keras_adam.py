"""Adam as Keras 3 steps it, so that a training here can be compared with one there.

TensorFlow gives an embedding's gradient as one row for each token read. Keras' Adam squares those
rows before it adds up the ones of the same word: a word read n times in a batch gets Σ g² instead
of its gradient's square, (Σ g)². The second moment is up to n times too small, so the embedding
moves up to √n times too far. Otherwise the two agree, except for ε: Keras adds it to √v before the
bias is corrected, PyTorch after.
"""

import torch
from torch import Tensor, nn

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-7


class KerasAdam(torch.optim.Optimizer):
    """Adam with Keras' second moment for the embedding; it records the look-ups it replaces."""

    def __init__(self, model: nn.Module, rate: float) -> None:
        super().__init__(model.parameters(), {"lr": rate})
        self.embedding = model.embedding
        self.looked_up: list[tuple[Tensor, Tensor]] = []
        nn.functional.embedding = self.look_up

    def look_up(self, ids: Tensor, weight: Tensor) -> Tensor:
        """nn.functional.embedding that keeps the gradient of every row."""
        rows = weight[ids]
        if weight is self.embedding and rows.requires_grad:
            rows.retain_grad()
            self.looked_up.append((ids, rows))
        return rows

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One update of every parameter."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state.update(t=0, m=torch.zeros_like(parameter), v=torch.zeros_like(parameter))
                state["t"] += 1
                square = parameter.grad.square()
                if parameter is self.embedding:
                    square.zero_()
                    for ids, rows in self.looked_up:
                        each = rows.grad.reshape(-1, rows.shape[-1]).square()
                        square.index_add_(0, ids.reshape(-1), each)
                    self.looked_up.clear()
                state["m"].lerp_(parameter.grad, 1 - BETA1)
                state["v"].lerp_(square, 1 - BETA2)
                bias = (1 - BETA2 ** state["t"]) ** 0.5 / (1 - BETA1 ** state["t"])
                parameter.addcdiv_(
                    state["m"], state["v"].sqrt().add_(EPSILON), value=-group["lr"] * bias
                )
