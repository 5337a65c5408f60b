"""Which earlier tokens a prediction depends on: one measure for every family of neural models.

The saliency of token s for a prediction is the gradient of the prediction's log-probability by the
vector of token s, times that vector, summed over its elements (gradient × input: Denil et al. 2014;
Shrikumar et al. 2016). It is in nats, to first order what the token's vector adds to the
log-probability, above zero where it makes the prediction likelier.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from textwright.compute.memory import memory_errors
from textwright.models import LanguageModel
from textwright.progress import OnProgress, silent

ELEMENTS = 2_000_000  # tokens × (widths of the vocabulary or of a layer) that are computed at once


@memory_errors()
def saliency(
    model: LanguageModel,
    ids: NDArray[np.int64],
    places: NDArray[np.int64],
    targets: NDArray[np.int64],
    on_progress: OnProgress = silent,
) -> NDArray[np.float64]:
    """The saliency (N, T) in nats of each token for each of N predictions.

    ids (T,): what the model reads, in one view · places (N,): prediction n is made from
    ids[: places[n] + 1] · targets (N,): the id that it is about. Tokens after a place have zero.
    Dropout is off. on_progress: called with predictions done and in all. Raises MemoryError if
    memory runs out.
    """
    embedding = cast(Tensor, model.embedding).detach()
    device = embedding.device
    text, at, wanted = (torch.as_tensor(a, device=device) for a in (ids, places, targets))
    encoder = _Encoder(model.eval())
    together = max(1, ELEMENTS // max(len(ids) * embedding.shape[1], len(embedding)))
    found = np.zeros((len(at), len(ids)))
    for begin in range(0, len(at), together):
        place, target = at[begin : begin + together], wanted[begin : begin + together]
        read = text[: int(place.max()) + 1]
        # Every token of every row gets a vector of its own, so that each has its own gradient.
        own = embedding[read.repeat(len(place))].requires_grad_()
        rows = torch.arange(len(own), device=device).view(len(place), -1)
        with torch.enable_grad():
            hidden = functional_call(encoder, {"model.embedding": own}, (rows,))
            logits = model.project(hidden[torch.arange(len(place), device=device), place]).float()
            logp = logits.log_softmax(-1).gather(1, target[:, None]).sum()
            (gradient,) = torch.autograd.grad(logp, own)
        shares = (gradient * own.detach()).sum(-1).view(rows.shape)
        found[begin : begin + together, : len(read)] = shares.cpu().double().numpy()
        on_progress(min(begin + together, len(at)), len(at))
    return found


class _Encoder(nn.Module):
    """A model whose call is `encode`, as `functional_call` needs it."""

    def __init__(self, model: LanguageModel):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        hidden, _ = self.model.encode(ids)
        return hidden
