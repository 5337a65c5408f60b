"""How much of the processor's memory a training step needs, measured before the first one.

An accelerator reports that its memory is full, and training continues with smaller micro-batches.
The processor's system ends the whole process instead, so there the need is measured beforehand.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from textwright.compute.memory import free_memory
from textwright.models import LanguageModel
from textwright.models.lora import trained

SHARE = 0.8  # share of the free memory that a step may take; the rest is for what is not measured
STEADY = 3  # the gradient and Adam's two moments, each as large as the trained parameters


def micro_batches_that_fit(model: LanguageModel, rows: int, width: int, count: int = 1) -> int:
    """How many micro-batches to make of a batch of `rows` rows of `width` ids: `count`, doubled
    until memory holds one of them. `count` if the free memory is not known."""
    free = free_memory()
    if free is None or count >= rows:
        return count
    free //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's processes on this machine
    one, two = (_kept_for_gradients(model, number, width) for number in (1, 2))
    a_row, fixed = two - one, max(0, 2 * one - two)
    steady = STEADY * sum(p.nbytes for p in trained(model).values())
    while count < rows and steady + fixed + -(-rows // count) * a_row > SHARE * free:
        count *= 2
    return count


def _kept_for_gradients(model: LanguageModel, rows: int, width: int) -> int:
    """Bytes that the forward pass keeps for the backward pass, without the parameters.

    If blocks are recomputed, what one block needs while it is recomputed is not counted.
    """
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.zeros(rows, width, dtype=torch.long)
    training = model.training
    model.train()
    with torch.random.fork_rng(devices=[]), saved_tensors_hooks(note, lambda tensor: tensor):
        hidden, _ = model.encode(ids)
        model.next_token_loss(hidden, ids)
    model.train(training)
    return sum(kept.values())
