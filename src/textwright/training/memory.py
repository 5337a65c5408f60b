"""What a training step will take of the processor's memory, measured before the first one.

An accelerator says when its memory is full, and training goes on from there in smaller parts. The
processor's system ends the whole process instead, so there the need is measured beforehand.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from textwright.models import LanguageModel
from textwright.models.lora import trained

SHARE = 0.8  # of the free memory that a step may take; the rest is for what is not measured
CONTAINER = Path("/sys/fs/cgroup")  # where a container's limits stand (cgroup 2)
STEADY = 3  # gradient and two moments of Adam, in sizes of what is trained


def parts_that_fit(model: LanguageModel, rows: int, width: int, parts: int = 1) -> int:
    """In how many parts memory holds a batch of so many rows of `width` ids: `parts`, doubled for
    as long as it does not. Unchanged where nobody tells what is free."""
    free = free_memory()
    if free is None or parts >= rows:
        return parts
    free //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's processes on this machine
    one, two = (_kept_for_gradients(model, count, width) for count in (1, 2))
    a_row, whatever = two - one, max(0, 2 * one - two)
    steady = STEADY * sum(p.nbytes for p in trained(model).values())
    while parts < rows and steady + whatever + -(-rows // parts) * a_row > SHARE * free:
        parts *= 2
    return parts


def free_memory() -> int | None:
    """Bytes that the system, or the container, could still give; None where neither says (only
    Linux does)."""
    free = []
    with suppress(OSError):
        if told := re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text()):
            free.append(int(told[1]) * 1024)
    with suppress(OSError, ValueError):  # no container, or "max": no limit
        limit = int((CONTAINER / "memory.max").read_text())
        given_back = re.search(
            r"^inactive_file (\d+)", (CONTAINER / "memory.stat").read_text(), re.M
        )
        cached = int(given_back[1]) if given_back else 0
        free.append(limit - int((CONTAINER / "memory.current").read_text()) + cached)
    return min(free, default=None)


def _kept_for_gradients(model: LanguageModel, rows: int, width: int) -> int:
    """Bytes that the forward pass leaves for the backward pass, parameters not counted.

    Where blocks are recomputed, what the one in work takes then is not counted either.
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
